// Browsers have it; this Node may not.
import WebSocket from "ws";
globalThis.WebSocket ??= WebSocket;
