// OpenAI's npm package, unchanged, as a client of Responses: node openai_responses.mjs URL. A line of JSON a step.
import OpenAI from "openai";
import { ResponsesToolRunner, runnerFunction } from "openai/helpers/responses-tool-runner";
import { zodResponsesFunction, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0 });
const model = "scripted";
const tools = [{ type: "function", name: "get_weather", parameters: { type: "object" }, strict: false }];
const tell = (step, value) => console.log(JSON.stringify({ step, ...value }));
const refused = async (promise) => {
  try {
    await promise;
    return null;
  } catch (error) {
    return { error: error.constructor.name, code: error.code, param: error.param };
  }
};

const answer = await client.responses.create({ model, input: "rich" });
tell("create", { text: answer.output_text, kinds: answer.output.map((item) => item.type) });

const stream = client.responses.stream({ model, input: "rich" });
let count = 0;
let dense = true;
for await (const event of stream) dense = dense && event.sequence_number === count++;
const final = await stream.finalResponse();
const stored = await client.responses.retrieve(final.id);
tell("stream", { text: final.output_text, dense, same: stored.output_text === final.output_text, status: stored.status });

// Structured output, plain and streamed, by a schema of zod's.
const text = { format: zodTextFormat(z.object({ degrees: z.number() }), "weather") };
const parsed = await client.responses.parse({ model, input: 'echo {"degrees": 21}', text });
const snapshots = [];
const parsing = client.responses.stream({ model, input: 'echo {"degrees": 22}', text });
parsing.on("response.output_text.delta", ({ snapshot }) => snapshots.push(snapshot));
const streamedParsed = await parsing.finalResponse();
tell("parse", {
  plain: parsed.output_parsed,
  streamed: streamedParsed.output_parsed,
  snapshot: snapshots.at(-1),
  wrong: (await refused(client.responses.parse({ model, input: "echo {}", text })))?.error,
});

// Tools: by hand, parsed by a schema, and by the loop of the package.
const asked = await client.responses.create({ model, input: "call get_weather", tools });
const [call] = asked.output;
const told = await client.responses.create({
  model,
  previous_response_id: asked.id,
  input: [{ type: "function_call_output", call_id: call.call_id, output: "sunny" }],
});
tell("tool", { call: call.name, text: told.output_text });

const weather = zodResponsesFunction({
  name: "get_weather",
  parameters: z.object({ city: z.string() }),
  function: ({ city }) => `sunny in ${city}`,
});
const calling = client.responses.stream({ model, input: "call get_weather", tools: [weather] });
const pieces = [];
calling.on("response.function_call_arguments.delta", ({ snapshot }) => pieces.push(snapshot));
const called = (await calling.finalResponse()).output[0];
tell("parsed tool", { parsed: called.parsed_arguments, snapshot: JSON.parse(pieces.at(-1)) });

for (const streaming of [false, true]) {
  const runner = new ResponsesToolRunner({ functions: [runnerFunction(weather)] });
  const ended = await runner.run(client, { model, input: "call get_weather" }, { stream: streaming });
  tell(streaming ? "streamed runner" : "runner", { text: ended.output_text });
}

// A response in the background: followed from an event by the helper and without it, cancelled, deleted.
const background = await client.responses.create({ model, input: "rich", background: true });
const numbers = [];
for await (const event of await client.responses.retrieve(background.id, { stream: true, starting_after: 1 })) {
  numbers.push(event.sequence_number);
}
tell("background", { first: numbers[0], status: (await client.responses.retrieve(background.id)).status });

const cut = client.responses.stream({ model, input: "steps 40", background: true });
let seen = "";
let last = -1;
let id = "";
for await (const event of cut) {
  if (event.type === "response.created") id = event.response.id;
  last = event.sequence_number;
  if (event.type === "response.output_text.delta") {
    seen += event.delta;
    if (seen.length > 10) break;
  }
}
const resumed = client.responses.stream({ response_id: id, starting_after: last });
let next = last;
let gapless = true;
for await (const event of resumed) {
  gapless = gapless && event.sequence_number === ++next;
  if (event.type === "response.output_text.delta") seen += event.delta;
}
const whole = await resumed.finalResponse();
tell("resume", { gapless, same: seen === whole.output_text, text: whole.output_text, status: whole.status });

const forever = await client.responses.create({ model, input: "forever", background: true });
const following = client.responses.stream({ response_id: forever.id });
await following.emitted("response.output_text.delta");
const canceled = await client.responses.cancel(forever.id);
const again = await client.responses.cancel(forever.id);
const ended = await following.finalResponse();
tell("cancel", {
  statuses: [canceled.status, again.status, ended.status],
  stored: (await client.responses.retrieve(forever.id)).status,
  foreground: await refused(client.responses.cancel(answer.id)),
});

const deleted = await client.responses.delete(forever.id);
tell("delete", { deleted: deleted.deleted, after: await refused(client.responses.retrieve(forever.id)) });

// What went in, page by page; how much it is; all of it packed.
const several = await client.responses.create({
  model,
  input: ["one", "two", "three", "four", "echo five"].map((content) => ({ role: "user", content })),
});
const words = (items) => items.map((item) => item.content[0].text);
const paged = [];
for await (const item of client.responses.inputItems.list(several.id, { order: "asc", limit: 2 })) paged.push(item);
const page = await client.responses.inputItems.list(several.id, { limit: 2 });
const older = await page.getNextPage();
tell("input items", { all: words(paged), newest: words(page.data), older: words(older.data), more: older.hasNextPage() });

const counted = await client.responses.inputTokens.count({ model, input: "x".repeat(400) });
const more = await client.responses.inputTokens.count({ model, previous_response_id: several.id, input: "x" });
tell("tokens", { alone: counted.input_tokens, chained: more.input_tokens > counted.input_tokens - 100 + 5 });

const compacted = await client.responses.compact({ model, previous_response_id: several.id });
const remembered = await client.responses.create({
  model,
  input: [...compacted.output, { role: "user", content: "history" }],
});
tell("compact", { kinds: compacted.output.map((item) => item.type), history: JSON.parse(remembered.output_text) });

const chained = await client.responses.create({ model, previous_response_id: several.id, input: "history" });
tell("chain", { history: JSON.parse(chained.output_text) });

const unstored = await client.responses.create({ model, input: "echo once", store: false });
tell("unstored", {
  text: unstored.output_text,
  store: unstored.store,
  continued: await refused(client.responses.create({ model, input: "x", previous_response_id: unstored.id })),
  items: await refused(client.responses.inputItems.list(unstored.id)),
  retrieved: await refused(client.responses.retrieve(unstored.id)),
});

// What goes wrong.
const failed = await client.responses.create({ model, input: "boom" });
tell("failed", { status: failed.status, code: failed.error.code });
const streamed = [];
for await (const event of await client.responses.create({ model, input: "boom", stream: true })) {
  streamed.push(event.type);
}
tell("streamed", { last: streamed.at(-1), helper: (await client.responses.stream({ model, input: "boom" }).finalResponse()).status });
tell("missing", await refused(client.responses.create({ model, input: "x", previous_response_id: "resp_none" })));
tell("no agent", await refused(client.responses.stream({ model: "gpt-9", input: "x" }).finalResponse()));
