// Relay's network layer: a query, one that is wrong, and a subscription, as its documentation has them.
import assert from "node:assert/strict";
import relay from "relay-runtime";
import { createClient } from "graphql-ws";

const { Environment, Network, Observable, RecordSource, Store } = relay;
const url = process.argv[2];
const socket = createClient({ url: url.replace("http", "ws"), retryAttempts: 0 });

async function fetchQuery(params, variables) {
  const response = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", accept: "application/graphql-response+json, application/json" },
    body: JSON.stringify({ query: params.text, documentId: params.id ?? undefined, variables }),
  });
  return response.json();
}
const subscribe = (params, variables) =>
  Observable.create((sink) =>
    socket.subscribe({ operationName: params.name, query: params.text, variables }, sink));
const environment = new Environment({
  network: Network.create(fetchQuery, subscribe),
  store: new Store(new RecordSource()),
});

const network = environment.getNetwork();
const params = (operationKind, name, text) => ({ operationKind, name, text, id: null, metadata: {} });
const all = (parameters, variables) =>
  new Promise((resolve, reject) => {
    const answers = [];
    network.execute(parameters, variables, {}).subscribe({
      next: (answer) => answers.push(answer),
      error: reject,
      complete: () => resolve(answers),
    });
  });

const hello = "query Hello($name: String!) { hello(name: $name) { message } }";
const [answer] = await all(params("query", "Hello", hello), { name: "Ann" });
assert.equal(answer.data.hello.message, "Hello, Ann!");
const [wrong] = await all(params("query", "Wrong", "query Wrong { nothing }"), {});
assert.equal(wrong.errors[0].extensions.code, "GRAPHQL_VALIDATION_FAILED");
const greetings = "subscription Greet { greetings { message } }";
assert.equal((await all(params("subscription", "Greet", greetings), {})).length, 5);
await socket.dispose();
console.log("Relay's network layer: query, refusal, subscription");
