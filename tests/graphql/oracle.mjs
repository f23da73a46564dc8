// A second opinion on GraphQL: graphql-js with the same schema as tests/src/everything.rs. Reads a
// request a line, {query, variables, operationName, subscribe}, and answers a line each.
import { createInterface } from 'node:readline';
import { buildSchema, parse, validate, execute, subscribe, getOperationAST } from 'graphql';
import { readFileSync } from 'node:fs';

const schema = buildSchema(readFileSync(process.argv[2], 'utf8'));
// Of fields whose siblings failed first; it leaves their rejections to nobody.
process.on('unhandledRejection', () => {});
// Half a character, where a message was cut within one.
const said = (errors) => errors.map((error) => error.message.toWellFormed());
let calls = {};
const END = 6;
const fail = () => { throw new Error('failed'); };
const dog = (depth) => ({ __typename: 'Dog', depth });
const cat = (depth) => ({ __typename: 'Cat', depth });
const person = (depth) => ({ __typename: 'Person', depth });
const kindOf = (kind) => (kind === 'DOG' ? dog(0) : cat(0));
const below = (make) => (of) => (of.depth + 1 < END ? make(of.depth + 1) : null);
// With the keys of objects in one order.
const sorted = (value) => {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])]));
};
const echo = (_, args) => JSON.stringify(sorted(args));
const mutations = () => Object.entries(calls).reduce((sum, [of, n]) => sum + (of.startsWith('Mutation.') ? n : 0), 0);
const strict = () => ({});
const resolvers = {
  Query: {
    animal: (_, { kind }) => kindOf(kind),
    animals: () => [dog(0), cat(0)],
    things: () => [dog(0), null, person(0), cat(0)],
    me: () => person(0),
    matrix: () => [[{}, {}], null, []],
    strict, stricts: () => [{}, null], nothing: () => null,
    echo,
    must: (_, { n, list }) => `${n}${list ? list.length : 0}`,
    mustNot: (_, { n }) => n,
  },
  Dog: {
    name: () => 'Rex', maybe: fail, lost: fail, friend: below(cat), noise: (_, { loud }) => (loud ? 'WOOF' : 'woof'),
    barks: () => true, owner: below(person), sound: () => 'growl', hard: fail,
  },
  Cat: {
    name: () => 'Tom', maybe: () => 'maybe', lost: () => 'here', friend: below(dog), noise: (_, { loud }) => (loud ? 'MEOW' : 'meow'),
    meows: () => 3, owner: below(person), sound: () => 7,
  },
  Person: {
    name: () => 'Ann', age: () => null, pets: below((d) => [cat(d), dog(d)]), friend: below(person),
    says: (_, { what }) => what,
  },
  Strict: {
    message: () => 'm', fail, maybe: fail, again: strict, must: strict, items: () => [{}, {}],
    words: () => ['a', new Error('failed'), null],
    hardWords: () => ['a', new Error('failed')],
    nan: () => NaN, floats: () => [0.5, Infinity],
    args: (_, { n, list }) => Math.max(0, Math.min(n, 9)) + list.length,
  },
  Counter: { value: (of) => of.value ?? 1, animal: () => dog(3) },
  Mutation: { add: (_, { n }) => (n !== 0 ? { value: mutations() } : null), fail, hard: () => ({ value: mutations() }) },
};
for (const [type, fields] of Object.entries(resolvers)) {
  for (const [name, resolve] of Object.entries(fields)) {
    // Asynchronous, as over there: siblings are called also when one of them fails.
    schema.getType(type).getFields()[name].resolve = async (of, args) => {
      const coordinate = `${type}.${name}`;
      calls[coordinate] = (calls[coordinate] ?? 0) + 1;
      return resolve(of, args);
    };
  }
}
const events = {
  ticks: (n) => Array(Math.max(0, Math.min(n, 3))).fill({}),
  stricts: () => [{}, null],
};
for (const [name, items] of Object.entries(events)) {
  const field = schema.getSubscriptionType().getFields()[name];
  field.subscribe = async function* (_, { n }) {
    calls[`Subscription.${name}`] = (calls[`Subscription.${name}`] ?? 0) + 1;
    for (const item of items(n)) yield { [name]: item };
  };
  field.resolve = (event) => event[name];
}
const anything = schema.getType('Anything');
anything.serialize = anything.parseValue = (value) => value;

const show = (result) => ({
  data: 'data' in result ? JSON.stringify(result.data) : null,
  executed: 'data' in result,
  errors: (result.errors ?? []).map((error) => error.path ?? []),
  messages: said(result.errors ?? []),
});
const answer = async ({ query, variables, operationName, subscribe: subscribes }) => {
  calls = {};
  const refused = (phase, errors) => ({ refused: phase, messages: said(errors) });
  let document;
  try { document = parse(query); } catch (error) { return refused('parse', [error]); }
  let errors;
  try { errors = validate(schema, document); } catch (error) { return { threw: String(error).toWellFormed() }; }
  if (errors.length) return refused('validate', errors);
  const args = { schema, document, variableValues: variables, operationName };
  // A letter may have been written over `subscription`.
  const other = getOperationAST(document, operationName)?.operation !== 'subscription';
  if (!subscribes || other) {
    const result = show(await execute(args));
    return result.executed ? { answers: [result], calls } : { refused: 'request', messages: result.messages };
  }
  let stream;
  try { stream = await subscribe(args); } catch (error) { return { threw: String(error).toWellFormed() }; }
  if (!stream[Symbol.asyncIterator]) return refused('request', stream.errors);
  const answers = [];
  for await (const event of stream) answers.push(show(event));
  return { answers, calls };
};
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await answer(JSON.parse(line))));
}
