/**
 * Just enough reading of TypeScript to check rules on it: where code is (and not text or comment), what a file
 * imports, and how long its functions are.
 *
 * @module
 */

/** Words after which a `/` begins a regular expression, not a division. */
const BEFORE_REGEX =
  /(?:^|[^\w$.])(?:return|typeof|case|do|else|in|instanceof|new|void|delete|throw|yield|await|of)$/;

/** Characters after which a `/` is a division. */
const BEFORE_DIVISION = /[\w$)\]}"'`]$/;

class Blanker {
  #at = 0;
  #out = "";

  constructor(readonly source: string) {}

  /** Code as it is; comments and the insides of texts as blanks. Offsets and lines stay. */
  blank(): string {
    this.#code("");
    return this.#out;
  }

  #keep(length: number): void {
    this.#out += this.source.slice(this.#at, this.#at + length);
    this.#at += length;
  }

  #blankTo(end: number): void {
    this.#out += this.source.slice(this.#at, end).replace(/[^\n]/g, " ");
    this.#at = end;
  }

  #endOf(text: string): number {
    const found = this.source.indexOf(text, this.#at);
    return found < 0 ? this.source.length : found;
  }

  /** Up to the closing brace of a `${` in a template, or to the end of the source. */
  #code(until: "" | "}"): void {
    let depth = 0;
    while (this.#at < this.source.length) {
      const rest = this.source.startsWith.bind(this.source);
      const char = this.source[this.#at];
      if (until === "}" && char === "}" && depth === 0) return;
      if (char === "{") depth++;
      if (char === "}") depth--;
      if (rest("//", this.#at)) this.#blankTo(this.#endOf("\n"));
      else if (rest("/*", this.#at)) this.#blankTo(Math.min(this.#endOf("*/") + 2, this.source.length));
      else if (char === '"' || char === "'") this.#quoted(char);
      else if (char === "`") this.#template();
      else if (char === "/" && this.#regexMayBegin()) this.#regex();
      else this.#keep(1);
    }
  }

  #quoted(quote: string): void {
    this.#keep(1);
    let end = this.#at;
    while (end < this.source.length && this.source[end] !== quote && this.source[end] !== "\n") {
      end += this.source[end] === "\\" ? 2 : 1;
    }
    this.#blankTo(Math.min(end, this.source.length));
    this.#keep(1);
  }

  #template(): void {
    this.#keep(1);
    while (this.#at < this.source.length) {
      let end = this.#at;
      while (end < this.source.length && this.source[end] !== "`" && !this.source.startsWith("${", end)) {
        end += this.source[end] === "\\" ? 2 : 1;
      }
      this.#blankTo(Math.min(end, this.source.length));
      if (this.source[this.#at] === "`") return this.#keep(1);
      this.#keep(2);
      this.#code("}");
      this.#keep(1);
    }
  }

  #regexMayBegin(): boolean {
    const before = this.#out.slice(-200).trimEnd();
    return !BEFORE_DIVISION.test(before) || BEFORE_REGEX.test(before);
  }

  #regex(): void {
    this.#keep(1);
    let end = this.#at;
    let inClass = false;
    while (end < this.source.length && this.source[end] !== "\n" && (inClass || this.source[end] !== "/")) {
      if (this.source[end] === "[") inClass = true;
      if (this.source[end] === "]") inClass = false;
      end += this.source[end] === "\\" ? 2 : 1;
    }
    this.#blankTo(Math.min(end, this.source.length));
    this.#keep(1);
  }
}

/** The source with comments and the insides of strings, templates and regular expressions blanked out. */
export function codeOnly(source: string): string {
  return new Blanker(source).blank();
}

/** Number of the line, from 1, that an offset lies on. */
export function lineAt(source: string, offset: number): number {
  let line = 1;
  for (let at = source.indexOf("\n"); at >= 0 && at < offset; at = source.indexOf("\n", at + 1)) line++;
  return line;
}

/** One import, export-from or dynamic import of a literal. */
export interface ImportStatement {
  /** What is imported, as written. */
  readonly specifier: string;
  /** Line number, from 1. */
  readonly line: number;
}

const IMPORT = /\b(?:import|export)\b(?:[\w\s{},*$]*?\bfrom\b)?\s*\(?\s*(["'])/g;

/** All imports of a source, types included. */
export function importsOf(source: string): ImportStatement[] {
  const code = codeOnly(source);
  return [...code.matchAll(IMPORT)].map((match) => {
    const begin = match.index + match[0].length;
    const end = code.indexOf(match[1] ?? "", begin);
    return { specifier: source.slice(begin, end), line: lineAt(source, match.index) };
  });
}

/** One function or method. */
export interface FunctionSpan {
  /** Its head, as far as it helps to find it. */
  readonly head: string;
  /** First line, from 1. */
  readonly line: number;
  /** Number of lines from the head to the closing brace. */
  readonly lines: number;
}

/** A bracket that is open, and where the statement, argument or member in it began. */
interface Open {
  readonly bracket: string;
  readonly head: string;
  readonly headAt: number;
  boundary: number;
}

const CONTROL =
  /^(?:\w+:\s+)?(?:if|for|while|switch|catch|else|do|try|finally|with|case|default)\b|\b(?:class|interface|enum|namespace)\b/;

function isFunctionHead(head: string): boolean {
  if (/=>$/.test(head) || /\bfunction\b/.test(head)) return true;
  return !CONTROL.test(head) && /\)\s*(?::[^;]*)?$/.test(head);
}

/** All functions with a body in braces, nested ones too, in the order they end. */
export function functionsOf(source: string): FunctionSpan[] {
  const code = codeOnly(source);
  const found: FunctionSpan[] = [];
  const stack: Open[] = [{ bracket: "{", head: "", headAt: 0, boundary: 0 }];
  for (let at = 0; at < code.length; at++) {
    const char = code[at] ?? "";
    const top = stack.at(-1);
    if (top === undefined) break;
    if ("{([".includes(char)) {
      const text = code.slice(top.boundary, at);
      const headAt = top.boundary + text.length - text.trimStart().length;
      stack.push({ bracket: char, head: text.trim(), headAt, boundary: at + 1 });
    } else if ("})]".includes(char)) {
      stack.pop();
      const under = stack.at(-1);
      if (char !== "}" || under === undefined) continue;
      if (under.bracket === "{") under.boundary = at + 1;
      if (!isFunctionHead(top.head)) continue;
      const line = lineAt(code, top.headAt);
      const head = source.slice(top.headAt, top.headAt + 80).split("\n")[0] ?? "";
      found.push({ head, line, lines: lineAt(code, at) - line + 1 });
    } else if (char === ";" || (char === "," && top.bracket === "(")) {
      top.boundary = at + 1;
    }
  }
  return found;
}
