import assert from "node:assert/strict";
import fc from "fast-check";
import { MAX_TIMERS, NO_TIMER } from "./io.ts";
import { Timers } from "./timers.ts";

type Step =
  | { readonly do: "arm"; readonly deadline: number }
  | { readonly do: "cancel"; readonly which: number }
  | { readonly do: "fire"; readonly now: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant("arm" as const), deadline: fc.nat(40) }),
  fc.record({ do: fc.constant("cancel" as const), which: fc.nat(100) }),
  fc.record({ do: fc.constant("fire" as const), now: fc.nat(40) }),
);

Deno.test("timers behave as a sorted list, whatever is armed, cancelled and fired", () => {
  fc.assert(fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
    const timers = new Timers();
    const fired: number[] = [];
    const who = { complete: (tag: number) => void fired.push(tag) };
    let model: { tag: number; deadline: number }[] = [];
    const handles: number[] = [];
    for (const action of steps) {
      if (action.do === "arm") {
        const tag = handles.length;
        handles.push(timers.arm(action.deadline, who, tag));
        model.push({ tag, deadline: action.deadline });
      } else if (action.do === "cancel") {
        const tag = action.which % Math.max(1, handles.length);
        timers.cancel(handles[tag] ?? NO_TIMER);
        model = model.filter((timer) => timer.tag !== tag);
      } else {
        fired.length = 0;
        timers.fire(action.now);
        const due = model.filter((timer) => timer.deadline <= action.now);
        due.sort((a, b) => a.deadline - b.deadline || a.tag - b.tag);
        assert.deepEqual(fired, due.map((timer) => timer.tag));
        model = model.filter((timer) => timer.deadline > action.now);
      }
      assert.equal(timers.size, model.length);
      assert.equal(timers.next, Math.min(Infinity, ...model.map((timer) => timer.deadline)));
    }
    assert.equal(new Set(handles).size, handles.length);
  }));
});

Deno.test("a timer armed or cancelled by a firing one is treated as such", () => {
  const timers = new Timers();
  const fired: string[] = [];
  const note = (name: string, act = () => {}) => ({ complete: () => (fired.push(name), act()) });
  timers.arm(1, note("first", () => (timers.arm(0, note("armed"), 0), timers.cancel(doomed))), 0);
  const doomed = timers.arm(2, note("doomed"), 0);
  timers.arm(3, note("last"), 0);
  timers.fire(5);
  timers.fire(5);
  assert.deepEqual(fired, ["first", "armed", "last"]);
});

Deno.test("handles that are not of this world are ignored, and places are used again", () => {
  const timers = new Timers();
  const who = { complete() {} };
  for (const handle of [NO_TIMER, NaN, Infinity, 0.5, 0, 7, 2 ** 60]) timers.cancel(handle);
  for (let round = 0; round < 3; round++) {
    const handles = Array.from({ length: MAX_TIMERS }, (_, i) => timers.arm(i, who, i));
    assert.throws(() => timers.arm(0, who, 0), RangeError);
    handles.forEach((handle) => timers.cancel(handle));
    assert.equal(timers.next, Infinity);
  }
});
