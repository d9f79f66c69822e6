import { expect, test } from "vitest";
import { EventParser } from "../../src/api/sse";

test("events arrive whole, however the bytes are cut", () => {
  const text = 'event: stage\r\ndata: {"stage":"reading"}\r\n\r\n: a comment\nevent: text\ndata: one\ndata: two\n\ndata: last\n\n';
  const whole = new EventParser().push(text);
  expect(whole).toEqual([
    { event: "stage", data: '{"stage":"reading"}' },
    { event: "text", data: "one\ntwo" },
    { event: "message", data: "last" },
  ]);
  for (const size of [1, 2, 3, 7]) {
    const parser = new EventParser();
    const cut = [];
    for (let at = 0; at < text.length; at += size) cut.push(...parser.push(text.slice(at, at + size)));
    expect(cut).toEqual(whole);
  }
});

test("an event that has not ended is not given", () => {
  expect(new EventParser().push("event: text\ndata: half\n")).toEqual([]);
});
