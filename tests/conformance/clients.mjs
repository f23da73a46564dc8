// Subscriptions, queries and refusals as the reference clients of both protocols see them.
import assert from "node:assert/strict";
import { createClient as socketClient } from "graphql-ws";
import { createClient as eventClient } from "graphql-sse";
import WebSocket from "ws";

const url = process.argv[2];

async function all(client, query) {
  const answers = [];
  for await (const answer of client.iterate({ query })) answers.push(answer);
  return answers;
}

async function talk(name, client) {
  const greetings = await all(client, 'subscription { greetings(name: "Ann") { message } }');
  assert.equal(greetings.length, 5, name);
  assert.equal(greetings[0].data.greetings.message, "Hello, Ann! (1 of 5)");
  const [hello] = await all(client, "{ hello { message } }");
  assert.equal(hello.data.hello.message, "Hello, iveBoy!");
  // One in the middle of a stream.
  const left = client.iterate({ query: "subscription { greetings { message } }" });
  await left.next();
  await left.return();
  await client.dispose();
  console.log(`${name}: subscription, query, leaving`);
}

const socket = () =>
  socketClient({ url: url.replace("http", "ws"), webSocketImpl: WebSocket, retryAttempts: 0 });
await talk("graphql-ws", socket());
await talk("graphql-sse", eventClient({ url, retryAttempts: 0 }));

await assert.rejects(all(socket(), "{ nothing }"), (errors) => {
  assert.equal(errors[0].extensions.code, "GRAPHQL_VALIDATION_FAILED");
  return true;
});
console.log("graphql-ws: a refusal");
