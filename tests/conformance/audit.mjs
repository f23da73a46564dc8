// The audit of GraphQL over HTTP by its authors: every MUST, SHOULD and MAY.
import { serverAudits } from "graphql-http";

const audits = serverAudits({ url: process.argv[2], fetchFn: fetch });
const failed = [];
for (const audit of audits) {
  const result = await audit.fn();
  if (result.status !== "ok") failed.push(`${audit.id} ${audit.name}: ${result.reason}`);
}
console.log(`graphql-http: ${audits.length - failed.length} of ${audits.length}`);
for (const line of failed) console.log(line);
process.exitCode = failed.length ? 1 : 0;
