// The playground in a browser that reaches nothing else: its first query, a subscription, a limit.
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const [url, program, picture] = process.argv.slice(2);
const page_url = new URL("/", url).href;
const browser = await chromium.launch({ executablePath: program, args: ["--no-sandbox"] });
const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
const elsewhere = [];
await page.route("**", (route) => {
  const asked = route.request().url();
  if (asked.startsWith(page_url) || asked.startsWith("data:")) return route.continue();
  elsewhere.push(asked);
  return route.abort();
});
const problems = [];
page.on("pageerror", (error) => problems.push(error.message));
await page.goto(page_url);

// GraphiQL looks for the operations of a tab a moment after it was chosen.
const choose = async (name) => {
  await page.locator(".graphiql-tab").filter({ hasText: name }).locator("button").first().click();
  await page.waitForTimeout(500);
};
const run = () => page.locator(".graphiql-execute-button").click();
const shows = (text) =>
  page.locator(".result-window", { hasText: text }).waitFor({ timeout: 15_000 });
await page.locator(".graphiql-execute-button").waitFor({ timeout: 15_000 });
const tabs = await page.locator(".graphiql-tab").allTextContents();
assert.deepEqual(tabs.map((tab) => tab.replace(" icon", "").trim()).slice(0, 2), ["Hello", "Greetings"]);

await choose("Hello");
await run();
await shows("Hello, iveBoy!");
// The rule of `cargo dev` allows ten a minute.
for (let n = 0; n < 12; n += 1) {
  await Promise.all([page.waitForResponse((response) => response.url() === url), run()]);
}
await shows("RATE_LIMITED");
await page.screenshot({ path: picture });

await choose("Greetings");
await run();
await shows("(2 of 5)");
assert.deepEqual(elsewhere, []);
assert.deepEqual(problems, []);
await browser.close();
console.log("the playground: a query, a limit, a subscription, nothing from elsewhere");
