// OpenAI's npm package, unchanged, as a client of Chat Completions: node openai_chat.mjs URL. A line of JSON a step.
import OpenAI from "openai";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0 });
const model = "scripted";
const tools = [{ type: "function", function: { name: "get_weather", parameters: { type: "object" } } }];
const said = (content) => [{ role: "user", content }];
const tell = (step, value) => console.log(JSON.stringify({ step, ...value }));

const models = [];
for await (const { id } of client.models.list()) models.push(id);
tell("models", { models });

const answer = await client.chat.completions.create({ model, messages: said("rich") });
tell("create", { content: answer.choices[0].message.content, usage: answer.usage.total_tokens });

let text = "";
let usage = null;
const stream = await client.chat.completions.create({
  model,
  messages: said("rich"),
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  text += chunk.choices[0]?.delta.content ?? "";
  usage = chunk.usage ?? usage;
}
tell("stream", { content: text, usage: usage.total_tokens });

const helper = client.chat.completions.stream({ model, messages: said("talk-and-call"), tools });
const final = await helper.finalChatCompletion();
tell("helper", {
  content: final.choices[0].message.content,
  finish: final.choices[0].finish_reason,
  call: final.choices[0].message.tool_calls[0].function,
});

const response_format = zodResponseFormat(z.object({ degrees: z.number() }), "weather");
const weather = zodFunction({ name: "get_weather", parameters: z.object({ city: z.string() }) });
const parsed = await client.chat.completions.parse({ model, messages: said('echo {"degrees": 21}'), response_format });
const parsing = client.chat.completions.stream({ model, messages: said('echo {"degrees": 22}'), response_format });
const streamed = await parsing.finalChatCompletion();
const called = await client.chat.completions.parse({ model, messages: said("call get_weather"), tools: [weather] });
tell("parse", {
  plain: parsed.choices[0].message.parsed,
  streamed: streamed.choices[0].message.parsed,
  call: called.choices[0].message.tool_calls[0].function.parsed_arguments,
});

for (const streaming of [false, true]) {
  const runner = client.chat.completions.runTools({
    model,
    messages: said("call get_weather"),
    stream: streaming,
    tools: [
      {
        type: "function",
        function: {
          name: "get_weather",
          parameters: { type: "object", properties: { city: { type: "string" } } },
          parse: JSON.parse,
          function: ({ city }) => `sunny in ${city}`,
        },
      },
    ],
  });
  tell("tools", { content: await runner.finalContent() });
}

for (const [step, asked] of [
  ["model", { model: "gpt-9", messages: said("x") }],
  ["failed", { model, messages: said("boom") }],
  ["failed stream", { model, messages: said("boom"), stream: true }],
]) {
  try {
    const answered = await client.chat.completions.create(asked);
    if (asked.stream) for await (const _ of answered);
    tell(step, { error: null });
  } catch (error) {
    tell(step, { error: error.constructor.name, status: error.status ?? null, code: error.code, id: error.requestID });
  }
}
