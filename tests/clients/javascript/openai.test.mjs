// The unmodified npm package "openai".
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import OpenAI from "openai";
import { PNG, backends, order, seenLeaving, url } from "./world.mjs";

const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0, timeout: 30_000 });
const said = (content) => [{ role: "user", content }];
const weather = {
  type: "function",
  function: {
    name: "get_weather",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};
const cities = [{ city: "Paris" }, { city: "Rome" }];

for (const { name, chat, sees, embeds } of backends) {
  afterEach(() => order(name));

  test(`${name}: chat`, async () => {
    const answer = await client.chat.completions.create({ model: chat, messages: said("good day") });
    assert.equal(answer.choices[0].message.content, "You said: good day");
    assert.equal(answer.choices[0].finish_reason, "stop");
    assert.equal(answer.model, chat);
    assert.equal(answer.usage.completion_tokens, 4);
  });

  test(`${name}: a stream, with usage`, async () => {
    const stream = await client.chat.completions.create({
      model: chat,
      messages: said("good day"),
      stream: true,
      stream_options: { include_usage: true },
    });
    let [text, usage] = ["", null];
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? "";
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, "You said: good day");
    assert.equal(usage.completion_tokens, 4);
  });

  test(`${name}: tools in parallel`, async () => {
    const messages = said("weather in Paris and Rome");
    const first = await client.chat.completions.create({ model: chat, messages, tools: [weather] });
    const calls = first.choices[0].message.tool_calls;
    assert.deepEqual(calls.map((call) => JSON.parse(call.function.arguments)), cities);
    messages.push(first.choices[0].message);
    for (const call of calls) messages.push({ role: "tool", tool_call_id: call.id, content: "dry" });
    const second = await client.chat.completions.create({ model: chat, messages, tools: [weather] });
    assert.equal(second.choices[0].message.content, "The tools say: get_weather=dry; get_weather=dry");
  });

  test(`${name}: streamed arguments`, async () => {
    const runner = client.chat.completions.stream({
      model: chat,
      messages: said("weather in Paris and Rome"),
      tools: [weather],
    });
    const final = await runner.finalChatCompletion();
    const calls = final.choices[0].message.tool_calls;
    assert.deepEqual(calls.map((call) => JSON.parse(call.function.arguments)), cities);
    assert.equal(final.choices[0].finish_reason, "tool_calls");
  });

  test(`${name}: JSON`, async () => {
    const answer = await client.chat.completions.create({
      model: chat,
      messages: said("in JSON"),
      response_format: { type: "json_object" },
    });
    assert.deepEqual(JSON.parse(answer.choices[0].message.content), { said: "in JSON" });
  });

  test(`${name}: a picture`, async () => {
    const image = { type: "image_url", image_url: { url: `data:image/png;base64,${PNG}` } };
    const answer = await client.chat.completions.create({
      model: sees,
      messages: said([{ type: "text", text: "what is it?" }, image]),
    });
    assert.match(answer.choices[0].message.content, /^I see 1 images: [0-9a-f]{8}$/);
  });

  test(`${name}: embeddings, which it asks for in base64`, async () => {
    const input = ["the lion", "a sheep"];
    const coded = await client.embeddings.create({ model: embeds, input });
    const plain = await client.embeddings.create({ model: embeds, input, encoding_format: "float" });
    assert.deepEqual(coded.data.map((row) => row.embedding), plain.data.map((row) => row.embedding));
    assert.equal(plain.data[0].embedding.length, 8);
  });

  test(`${name}: a failure is an error, also in mid-stream`, async () => {
    await order(name, "status=500");
    const ask = { model: chat, messages: said("count to 40") };
    await assert.rejects(client.chat.completions.create(ask), (error) => error.status >= 500);
    for (const fault of ["fail_after=3", "stop_after=3", "close_at=900"]) {
      await order(name, `${fault}; interval_s=0.01`);
      await assert.rejects(async () => {
        for await (const chunk of await client.chat.completions.create({ ...ask, stream: true })) {
          assert.equal(chunk.choices[0]?.finish_reason ?? null, null);
        }
      });
    }
  });

  test(`${name}: who leaves is not served on`, async () => {
    await order(name, "interval_s=0.05");
    const stream = await client.chat.completions.create({
      model: chat,
      messages: said("count to 500"),
      stream: true,
    });
    for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break;
    assert.ok(await seenLeaving(name));
  });
}

test("an unknown model", async () => {
  await assert.rejects(
    client.chat.completions.create({ model: "nobody-has-this", messages: said("hello") }),
    (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found",
  );
});

test("models", async () => {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  for (const { chat, embeds } of backends) {
    assert.ok(ids.includes(chat));
    assert.ok(ids.includes(embeds) || ids.includes(`${embeds}:latest`));
  }
});
