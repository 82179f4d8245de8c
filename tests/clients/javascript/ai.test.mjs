// The unmodified npm package "ai" with its providers.
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { PNG, backends, order, seenLeaving, url } from "./world.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;
const compatible = createOpenAICompatible({
  name: "swarm",
  baseURL: `${url}/v1`,
  apiKey: "none",
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey: "none" });
const anthropic = createAnthropic({ baseURL: `${url}/v1`, apiKey: "none" });
const providers = {
  compatible: (model) => compatible(model),
  openai: (model) => openai.chat(model),
  anthropic: (model) => anthropic(model),
  // Its own choice for OpenAI's API.
  responses: (model) => openai.responses(model),
};
const asked = (process.env.SWARM_PROVIDERS ?? "compatible,openai,anthropic,responses").split(",");

const weather = tool({
  description: "The weather in a city.",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `dry in ${city}`,
});
const how = { maxRetries: 0, maxOutputTokens: 64 };

for (const { name, chat, sees, embeds } of backends) {
  afterEach(() => order(name));

  for (const provider of asked) {
    const model = (id) => providers[provider](id);

    test(`${name} by ${provider}: text`, async () => {
      const told = await generateText({ ...how, model: model(chat), prompt: "good day" });
      assert.equal(told.text, "You said: good day");
      assert.equal(told.finishReason, "stop");
      assert.equal(told.usage.outputTokens, 4);
    });

    test(`${name} by ${provider}: a stream`, async () => {
      const stream = streamText({ ...how, model: model(chat), prompt: "good day" });
      const pieces = [];
      for await (const piece of stream.textStream) pieces.push(piece);
      assert.equal(pieces.join(""), "You said: good day");
      assert.equal(pieces.length, 4);
      assert.equal(await stream.finishReason, "stop");
      assert.equal((await stream.usage).outputTokens, 4);
    });

    test(`${name} by ${provider}: tools in parallel, whole and streamed`, async () => {
      const ask = { ...how, tools: { get_weather: weather }, stopWhen: stepCountIs(2) };
      const prompt = "weather in Paris and Rome";
      const expected = "The tools say: get_weather=dry in Paris; get_weather=dry in Rome";
      const whole = await generateText({ ...ask, model: model(chat), prompt });
      assert.equal(whole.text, expected);
      assert.equal(whole.steps[0].toolCalls.length, 2);
      const stream = streamText({ ...ask, model: model(chat), prompt });
      assert.equal(await stream.text, expected);
    });

    test(`${name} by ${provider}: a picture`, async () => {
      const content = [
        { type: "text", text: "what is it?" },
        { type: "image", image: Buffer.from(PNG, "base64") },
      ];
      const told = await generateText({ ...how, model: model(sees), messages: [{ role: "user", content }] });
      assert.match(told.text, /^I see 1 images: [0-9a-f]{8}$/);
    });

    test(`${name} by ${provider}: failures are errors`, async () => {
      await order(name, "status=500");
      await assert.rejects(generateText({ ...how, model: model(chat), prompt: "good day" }));
      for (const fault of ["fail_after=3", "stop_after=3", "close_at=900"]) {
        await order(name, `${fault}; interval_s=0.01`);
        const kinds = [];
        const stream = streamText({ ...how, model: model(chat), prompt: "count to 40", onError() {} });
        for await (const part of stream.fullStream) {
          kinds.push(part.type === "finish" ? `finish:${part.finishReason}` : part.type);
        }
        assert.ok(kinds.includes("error") || kinds.includes("finish:error"), `${fault}: ${kinds}`);
        assert.ok(!kinds.includes("finish:stop"), `${fault}: ${kinds}`);
      }
    });

    test(`${name} by ${provider}: who leaves is not served on`, async () => {
      await order(name, "interval_s=0.05");
      const leave = new AbortController();
      const stream = streamText({
        ...how,
        maxOutputTokens: 600,
        model: model(chat),
        prompt: "count to 500",
        abortSignal: leave.signal,
        onError() {},
      });
      for await (const part of stream.fullStream) if (part.type === "text-delta") leave.abort();
      assert.ok(await seenLeaving(name));
    });
  }

  test(`${name}: an object of a schema`, async () => {
    const schema = z.object({ name: z.string(), age: z.number() });
    const told = await generateObject({ ...how, model: compatible(chat), schema, prompt: "who?" });
    assert.deepEqual(told.object, { name: "word", age: 1.5 });
  });

  test(`${name}: embeddings`, async () => {
    const values = ["the lion", "a sheep"];
    const told = await embedMany({ model: compatible.textEmbeddingModel(embeds), values, maxRetries: 0 });
    assert.equal(told.embeddings.length, 2);
    assert.equal(told.embeddings[0].length, 8);
    assert.notDeepEqual(told.embeddings[0], told.embeddings[1]);
  });
}
