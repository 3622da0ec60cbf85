// OpenAI's npm package, unchanged, as a client of Conversations: node openai_conversations.mjs URL. A line of JSON a step.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0 });
const model = "scripted";
const tell = (step, value) => console.log(JSON.stringify({ step, ...value }));
const error = async (promise) => {
  try {
    await promise;
    return null;
  } catch (failed) {
    return { error: failed.constructor.name, param: failed.param };
  }
};
const list = async (query) => {
  const items = [];
  for await (const item of client.conversations.items.list(conversation.id, query)) items.push(item);
  return items;
};

const conversation = await client.conversations.create({
  metadata: { topic: "x" },
  items: [{ role: "user", content: "hello" }],
});
const found = await client.conversations.retrieve(conversation.id);
const updated = await client.conversations.update(conversation.id, { metadata: { topic: "y" } });
tell("conversation", { same: found.id === conversation.id, before: found.metadata, after: updated.metadata });

const response = await client.responses.create({ model, input: "rich", conversation: conversation.id });
const items = await list({ order: "asc", limit: 2 });
tell("items", { kinds: items.map((item) => item.type), same: items[2].id === response.output[0].id });
const newest = await client.conversations.items.list(conversation.id, { limit: 1 });
tell("newest", { id: newest.data[0].id === items.at(-1).id, more: newest.hasNextPage() });

const created = await client.conversations.items.create(conversation.id, {
  items: [
    { role: "user", content: "look" },
    { type: "message", role: "assistant", content: [{ type: "output_text", text: "I do", annotations: [] }] },
  ],
});
const [look] = created.data;
const read = await client.conversations.items.retrieve(look.id, { conversation_id: conversation.id });
tell("created", { texts: created.data.map((item) => item.content[0].text), read: read.content[0].text });

const after = await client.conversations.items.delete(look.id, { conversation_id: conversation.id });
tell("deleted item", {
  conversation: after.id === conversation.id,
  gone: await error(client.conversations.items.retrieve(look.id, { conversation_id: conversation.id })),
  left: (await list({ order: "asc" })).length,
});

const history = await client.responses.stream({ model, input: "history", conversation: { id: conversation.id } }).finalResponse();
tell("history", { said: JSON.parse(history.output_text), conversation: history.conversation.id === conversation.id });

const gone = await client.conversations.delete(conversation.id);
tell("deleted", {
  deleted: gone.deleted,
  retrieve: await error(client.conversations.retrieve(conversation.id)),
  use: await error(client.responses.create({ model, input: "x", conversation: conversation.id })),
  both: await error(client.responses.create({ model, input: "x", conversation: "conv_1", previous_response_id: response.id })),
});
