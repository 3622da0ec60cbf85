// OpenAI's npm package, unchanged, as a client of Responses: node openai_responses.mjs URL. A line of JSON a step.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0 });
const model = "scripted";
const tools = [{ type: "function", name: "get_weather", parameters: { type: "object" }, strict: false }];
const tell = (step, value) => console.log(JSON.stringify({ step, ...value }));

const answer = await client.responses.create({ model, input: "rich" });
tell("create", { text: answer.output_text, kinds: answer.output.map((item) => item.type) });

const stream = client.responses.stream({ model, input: "rich" });
let count = 0;
let dense = true;
for await (const event of stream) dense = dense && event.sequence_number === count++;
const final = await stream.finalResponse();
const stored = await client.responses.retrieve(final.id);
tell("stream", { text: final.output_text, dense, same: stored.output_text === final.output_text, status: stored.status });

const asked = await client.responses.create({ model, input: "call get_weather", tools });
const [call] = asked.output;
const told = await client.responses.create({
  model,
  previous_response_id: asked.id,
  input: [{ type: "function_call_output", call_id: call.call_id, output: "sunny" }],
});
tell("tool", { call: call.name, text: told.output_text });

const background = await client.responses.create({ model, input: "rich", background: true });
const numbers = [];
for await (const event of await client.responses.retrieve(background.id, { stream: true, starting_after: 1 })) {
  numbers.push(event.sequence_number);
}
tell("background", { first: numbers[0], status: (await client.responses.retrieve(background.id)).status });

const conversation = await client.conversations.create({ items: [{ role: "user", content: "hello" }] });
await client.responses.create({ model, input: "rich", conversation: conversation.id });
const items = [];
for await (const item of client.conversations.items.list(conversation.id, { order: "asc", limit: 2 })) {
  items.push(item.type);
}
tell("conversation", { items });

const failed = await client.responses.create({ model, input: "boom" });
tell("failed", { status: failed.status, code: failed.error.code });
const streamed = [];
for await (const event of await client.responses.create({ model, input: "boom", stream: true })) {
  streamed.push(event.type);
}
tell("streamed", { last: streamed.at(-1) });

try {
  await client.responses.create({ model, input: "x", previous_response_id: "resp_none" });
} catch (error) {
  tell("missing", { error: error.constructor.name, code: error.code, param: error.param });
}
