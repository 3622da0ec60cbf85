// OpenAI's npm package, unchanged, on the WebSocket of Responses: node openai_socket.mjs URL. A line of JSON a step.
import { once } from "node:events";
import OpenAI from "openai";
import { ResponsesWebSocketSession } from "openai/lib/responses/responses-websocket-session";
import { ResponsesWS } from "openai/resources/responses/ws";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0 });
const model = "scripted";
const tell = (step, value) => console.log(JSON.stringify({ step, ...value }));
const TERMINAL = ["response.completed", "response.failed", "response.incomplete", "error"];

const socket = new ResponsesWS(client);
const messages = socket.stream();
const next = async () => {
  for await (const event of { [Symbol.asyncIterator]: () => ({ next: () => messages.next() }) }) {
    if (event.type === "message") return event.message;
    if (event.type === "error") return event.error.error ?? event.error;
  }
};
const until = async (...types) => {
  const events = [await next()];
  while (!types.includes(events.at(-1).type)) events.push(await next());
  return events;
};
const ask = (body) => socket.send({ type: "response.create", model, ...body });
const textOf = (event) =>
  event.response.output.filter((item) => item.type === "message").map((item) => item.content[0].text).join("");

ask({ input: "echo one" });
const first = await until(...TERMINAL);
ask({ input: "history", previous_response_id: first.at(-1).response.id });
const second = await until(...TERMINAL);
tell("sequence", {
  kinds: first.map((event) => event.type),
  dense: first.every((event, place) => event.sequence_number === place),
  history: JSON.parse(textOf(second.at(-1))),
  stored: (await client.responses.retrieve(second.at(-1).response.id)).output_text === textOf(second.at(-1)),
});

ask({ input: "echo kept here", store: false });
const unstored = (await until(...TERMINAL)).at(-1).response;
ask({ input: "history", previous_response_id: unstored.id, store: false });
tell("unstored", { history: JSON.parse(textOf((await until(...TERMINAL)).at(-1))) });

ask({ input: "echo x", previous_response_id: "resp_none" });
const refused = await next();
tell("error", { type: refused.type, status: refused.status, code: refused.error.code, param: refused.error.param });

ask({ input: "listen" });
const started = await until("response.output_text.delta");
const { id } = started[0].response;
socket.send({ type: "response.steer", input: "turn left", previous_response_id: id });
const steered = await until("response.completed");
const kinds = steered.map((event) => event.type);
const cut = steered[kinds.indexOf("response.incomplete")].response;
const successor = steered[kinds.indexOf("response.created")].response;
tell("steer", {
  accepted: kinds.includes("response.steer.accepted"),
  reason: cut.incomplete_details.reason,
  follows: successor.previous_response_id === id && cut.id === id,
  text: textOf(steered.at(-1)),
});
socket.send({ type: "response.steer", input: "too late", previous_response_id: id });
const late = await until("response.steer.failed");
tell("late", { code: late.at(-1).error.code });

// Two lanes, by the package's own session.
const session = new ResponsesWebSocketSession(socket, { maxLanes: 4, maxBufferedEvents: 1000, maxBufferedBytes: 1e6 });
const slow = session.lane("slow");
const quick = session.lane("quick");
slow.create({ model, input: "steps 40" });
quick.create({ model, input: "echo quick" });
const order = [];
const [long, short] = await Promise.all(
  [slow, quick].map(async (lane) => {
    const response = await lane.finalResponse();
    order.push(lane.streamID);
    return response;
  }),
);
tell("lanes", { order, texts: [long.output_text, short.output_text] });
session.close();

const closed = once(socket, "close");
socket.close();
await closed;
tell("closed", {});
