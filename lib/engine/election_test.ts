import assert from "node:assert/strict";
import fc from "fast-check";
import { type Candidate, elect, ElectionError, type ElectionRules, missingText } from "./election.ts";

const GIB = 1024 ** 3;

const RULES: ElectionRules = {
  bytes: GIB,
  currentBytes: 0,
  revisionCounterDisabled: true,
  salvage: false,
  upgrade: false,
};

/** A replica a, b, c... as it is after an orderly stop of Longhorn. */
function candidate(name: string, change: Partial<Candidate> = {}): Candidate {
  return {
    name,
    bytes: GIB,
    state: "open",
    sectorBytes: 512,
    rebuilding: false,
    revisionCounter: 0,
    revisionCounterDisabled: true,
    headModifiedNs: 1e18,
    chain: ["volume-head-000.img"],
    disks: new Map([["volume-head-000.img", false]]),
    headBytes: 4096,
    unclean: false,
    lostUnflushed: false,
    id: `id-${name}`,
    generation: 0,
    revision: 0,
    members: [],
    ...change,
  };
}

/** The same after Drover: `members` by letter. */
function recorded(
  name: string,
  generation: number,
  revision: number,
  members: string,
  change = {},
): Candidate {
  return candidate(name, { generation, revision, members: [...members].map((m) => `id-${m}`), ...change });
}

/** An empty copy without a record, found beside others by an engine. */
function founder(name: string, beside: string, change = {}): Candidate {
  return recorded(name, 0, 0, beside, { headBytes: 0, ...change });
}

interface Case {
  readonly candidates: readonly Candidate[];
  readonly rules?: Partial<ElectionRules>;
  readonly chosen: string;
  readonly refused?: Readonly<Record<string, RegExp>>;
  readonly missing?: string;
  readonly bytes?: number;
  readonly generation?: number;
}

const CASES: Readonly<Record<string, Case>> = {
  "equal copies are all used": {
    candidates: [candidate("a"), candidate("b"), candidate("c")],
    chosen: "abc",
    generation: 1,
  },
  "nothing given, nothing chosen": { candidates: [], chosen: "" },
  "a dirty copy is used": { candidates: [candidate("a", { state: "dirty", unclean: true })], chosen: "a" },
  "copies in any other state are refused": {
    candidates: [
      candidate("a"),
      candidate("b", { state: "rebuilding", rebuilding: true }),
      candidate("c", { state: "error" }),
    ],
    chosen: "a",
    refused: { b: /state is rebuilding: a rebuild was not finished/, c: /state is error/ },
  },
  "a sector size that differs from the first one's is refused": {
    candidates: [candidate("a"), candidate("b", { sectorBytes: 4096 })],
    chosen: "a",
    refused: { b: /sector size 4096 instead of 512/ },
  },
  "another size is refused": {
    candidates: [candidate("a"), candidate("b", { bytes: 2 * GIB })],
    chosen: "a",
    refused: { b: /size 2147483648 instead of 1073741824/ },
  },
  "an unfinished expansion: not all have grown, so all count at the old size": {
    candidates: [candidate("a"), candidate("b", { bytes: 2 * GIB })],
    rules: { bytes: 2 * GIB, currentBytes: GIB },
    chosen: "a",
    refused: { b: /size 2147483648/ },
    bytes: GIB,
  },
  "an expansion that reached all: the new size": {
    candidates: [candidate("a", { bytes: 2 * GIB }), candidate("b", { bytes: 2 * GIB })],
    rules: { bytes: 2 * GIB, currentBytes: GIB },
    chosen: "ab",
    bytes: 2 * GIB,
  },
  "an expansion that reached none: the old size": {
    candidates: [candidate("a"), candidate("b")],
    rules: { bytes: 2 * GIB, currentBytes: GIB },
    chosen: "ab",
    bytes: GIB,
  },
  "a revision counter that is on here and off there is refused": {
    candidates: [candidate("a"), candidate("b", { revisionCounterDisabled: false })],
    chosen: "a",
    refused: { b: /revision counter is on/ },
  },
  "lower revision counters are refused": {
    candidates: [7, 9, 9, 3].map((revisionCounter, i) =>
      candidate("abcd"[i], { revisionCounter, revisionCounterDisabled: false })
    ),
    rules: { revisionCounterDisabled: false },
    chosen: "bc",
    refused: { a: /revision 7 of 9/, d: /revision 3 of 9/ },
  },
  "an upgrade does not compare counters": {
    candidates: [7, 9].map((revisionCounter, i) =>
      candidate("ab"[i], { revisionCounter, revisionCounterDisabled: false })
    ),
    rules: { revisionCounterDisabled: false, upgrade: true },
    chosen: "ab",
  },
  "salvage takes the largest head of those written within five seconds of the newest": {
    candidates: [
      candidate("a", { headModifiedNs: 1e18, headBytes: 4096 }),
      candidate("b", { headModifiedNs: 1e18 - 5e9, headBytes: 8192 }),
      candidate("c", { headModifiedNs: 1e18 - 6e9, headBytes: 1 << 20 }),
    ],
    rules: { salvage: true },
    chosen: "b",
    refused: { a: /salvage chose b/, c: /salvage chose b/ },
  },
  "salvage among heads of one size takes the newest": {
    candidates: [candidate("a", { headModifiedNs: 1e18 - 1e9 }), candidate("b")],
    rules: { salvage: true },
    chosen: "b",
    refused: { a: /salvage chose b/ },
  },
  "salvage means nothing where counters decide": {
    candidates: [candidate("a", { revisionCounterDisabled: false }), candidate("b")],
    rules: { salvage: true, revisionCounterDisabled: false },
    chosen: "a",
    refused: { b: /revision counter is off/ },
  },
  "the newest record decides, whoever holds it": {
    candidates: [recorded("a", 4, 2, "ab"), recorded("b", 4, 2, "ab"), recorded("c", 4, 1, "abc")],
    chosen: "ab",
    refused: { c: /it missed writes: the members of generation 4.2 do not include it/ },
    generation: 5,
  },
  "a later generation beats a higher revision": {
    candidates: [recorded("a", 5, 1, "a"), recorded("b", 4, 9, "ab")],
    chosen: "a",
    refused: { b: /missed writes/ },
    generation: 6,
  },
  "empty copies that were found beside each other are a new volume, when all are there": {
    candidates: [founder("a", "abc"), founder("b", "abc"), founder("c", "abc")],
    chosen: "abc",
    generation: 1,
  },
  "an empty copy that was found beside others, which are not there, is no new volume": {
    candidates: [founder("c", "abc")],
    chosen: "c",
    missing: "ab",
    generation: 1,
  },
  "a fresh copy does not stand for the one that is missing": {
    candidates: [founder("a", "ab"), candidate("d", { headBytes: 0 })],
    chosen: "ad",
    missing: "b",
  },
  "a copy of Longhorn with data is judged by its data, whatever it was found beside": {
    candidates: [founder("a", "ab", { headBytes: 8192 })],
    chosen: "a",
    missing: "",
  },
  "an empty copy whose engine died before it had recorded the members is one of them": {
    candidates: [recorded("a", 1, 1, "abc"), founder("b", "abc"), founder("c", "abc")],
    chosen: "abc",
    missing: "",
    generation: 2,
  },
  "so is one with data of Longhorn": {
    candidates: [
      recorded("a", 1, 1, "ab", { headBytes: 8192 }),
      founder("b", "ab", { headBytes: 8192 }),
    ],
    chosen: "ab",
  },
  "an empty copy that was left behind at once is none": {
    candidates: [recorded("a", 1, 2, "ab"), recorded("b", 1, 2, "ab"), founder("c", "abc")],
    chosen: "ab",
    refused: { c: /it is empty: it was never part of the volume/ },
  },
  "a copy whose record another engine removed is none, though its name is known": {
    candidates: [recorded("a", 3, 1, "ab"), candidate("b", { headBytes: 0 })],
    chosen: "a",
    refused: { b: /it is empty/ },
    missing: "b",
  },
  "a copy that was left behind has no say in the size after an expansion": {
    candidates: [
      recorded("a", 2, 2, "a", { bytes: 2 * GIB }),
      recorded("b", 2, 1, "ab"),
      recorded("c", 1, 9, "abc"),
    ],
    rules: { bytes: 2 * GIB, currentBytes: GIB },
    chosen: "a",
    bytes: 2 * GIB,
    refused: { b: /size/, c: /size/ },
  },
  "nor has one that grew before it was left behind": {
    candidates: [recorded("a", 2, 2, "a"), recorded("b", 2, 1, "ab", { bytes: 2 * GIB })],
    rules: { bytes: 2 * GIB, currentBytes: GIB },
    chosen: "a",
    bytes: GIB,
    refused: { b: /size/ },
  },
  "a copy with data that has only its own note is no riddle: no other engine has written to it": {
    candidates: [
      recorded("a", 3, 1, "ab"),
      recorded("b", 3, 1, "ab"),
      founder("c", "c", { headBytes: 8192 }),
    ],
    chosen: "ab",
    refused: { c: /missed writes/ },
    missing: "",
  },
  "an empty copy that was found beside nobody is a new volume": {
    candidates: [founder("a", "a")],
    chosen: "a",
    missing: "",
  },
  "a member that is not there is missing": {
    candidates: [recorded("a", 3, 1, "abc"), recorded("c", 3, 1, "abc")],
    chosen: "ac",
    missing: "b",
  },
  "a member that was refused for its size is missing": {
    candidates: [recorded("a", 3, 1, "ab"), recorded("b", 3, 1, "ab", { bytes: 2 * GIB })],
    chosen: "a",
    missing: "b",
    refused: { b: /size/ },
  },
  "a copy that holds the newest record without being in it gives way": {
    candidates: [recorded("a", 3, 2, "b"), recorded("b", 3, 1, "ab")],
    chosen: "b",
    refused: { a: /missed writes/ },
  },
  "an older record of a member does not matter": {
    candidates: [recorded("a", 3, 2, "ab"), recorded("b", 2, 7, "abc")],
    chosen: "ab",
  },
  "a copy whose machine restarted gives way to one that kept running": {
    candidates: [recorded("a", 3, 1, "ab", { lostUnflushed: true }), recorded("b", 3, 1, "ab")],
    chosen: "b",
    refused: { a: /its machine restarted and lost writes/ },
    missing: "",
  },
  "when all machines restarted all are used": {
    candidates: [
      recorded("a", 3, 1, "ab", { lostUnflushed: true }),
      recorded("b", 3, 1, "ab", { lostUnflushed: true }),
    ],
    chosen: "ab",
  },
  "counters mean nothing beside a record": {
    candidates: [
      recorded("a", 3, 1, "ab", { revisionCounter: 1, revisionCounterDisabled: false }),
      recorded("b", 3, 1, "ab", { revisionCounter: 2, revisionCounterDisabled: false }),
    ],
    rules: { revisionCounterDisabled: false },
    chosen: "ab",
  },
};

for (const [name, test] of Object.entries(CASES)) {
  Deno.test(`election: ${name}`, () => {
    const rules = { ...RULES, ...test.rules };
    const election = elect(test.candidates, rules);
    assert.deepEqual(election.chosen.map((c) => c.name).join(""), test.chosen);
    const refused = Object.fromEntries(election.refused.map(({ name, reason }) => [name, reason]));
    assert.deepEqual(Object.keys(refused).sort(), Object.keys(test.refused ?? {}).sort());
    for (const [name, reason] of Object.entries(test.refused ?? {})) assert.match(refused[name], reason);
    assert.deepEqual([...election.missing], [...test.missing ?? ""].map((m) => `id-${m}`));
    if (test.bytes !== undefined) assert.equal(election.bytes, test.bytes);
    if (test.generation !== undefined) assert.equal(election.generation, test.generation);
    assert.equal(election.unclean, election.chosen.some((c) => c.unclean));
  });
}

Deno.test("election: copies with a record beside copies without one are refused as a whole, and named", () => {
  const mixed = [recorded("a", 3, 1, "ab"), candidate("b"), candidate("c")];
  assert.throws(() => elect(mixed, RULES), (error) => {
    assert.ok(error instanceof ElectionError);
    assert.match(error.message, /^b, c: .*cannot be told which copy is newer.*add the others for a rebuild/);
    return true;
  });
  // One that cannot be used anyhow does not spoil the rest.
  const unusable = [recorded("a", 3, 1, "a"), candidate("b", { state: "rebuilding" })];
  assert.deepEqual(elect(unusable, RULES).chosen.map((c) => c.name), ["a"]);
});

Deno.test("election: whatever copies tell, each is chosen or refused, and no copy outside the newest record is chosen", () => {
  const any = fc.record({
    state: fc.constantFrom("open", "open", "open", "dirty", "rebuilding"),
    bytes: fc.constantFrom(GIB, GIB, GIB, 2 * GIB),
    generation: fc.integer({ min: 1, max: 3 }),
    revision: fc.integer({ min: 1, max: 3 }),
    lostUnflushed: fc.boolean(),
  });
  // One record is the same wherever it was written.
  const records = fc.array(fc.subarray(["a", "b", "c", "d"]), { minLength: 9, maxLength: 9 });
  fc.assert(fc.property(fc.array(any, { minLength: 1, maxLength: 4 }), records, (told, members) => {
    const list = told.map(({ generation, revision, ...rest }, i) =>
      recorded("abcd"[i], generation, revision, members[generation * 3 + revision - 4].join(""), rest)
    );
    const election = elect(list, RULES);
    const all = [...election.chosen.map((c) => c.name), ...election.refused.map((r) => r.name)];
    assert.deepEqual(all.sort(), list.map((c) => c.name).sort());
    const usable = list.filter((c) => c.state !== "rebuilding" && c.bytes === GIB);
    const age = (c: Candidate) => c.generation * 10 + c.revision;
    const newest = Math.max(...list.map(age));
    const record = list.find((c) => age(c) === newest);
    const complete = usable.filter((c) => record?.members.includes(c.id));
    const kept = complete.filter((c) => !c.lostUnflushed);
    assert.deepEqual(election.chosen, kept.length > 0 ? kept : complete);
    assert.ok(list.every((c) => election.generation > c.generation));
  }));
});

Deno.test("a start that is refused for missing copies names them, and what to do", () => {
  const fresh = missingText(elect([founder("c", "abc")], RULES));
  assert.match(
    fresh,
    /empty \(c\), .* begun with 2 other\(s\) that are not here \(id-a, id-b\).*--allow-missing-replicas/,
  );
  const old = missingText(elect([recorded("a", 3, 1, "ab")], RULES));
  assert.match(old, /1 replica\(s\) that were complete .* missing \(id-b\).*--allow-missing-replicas/);
});
