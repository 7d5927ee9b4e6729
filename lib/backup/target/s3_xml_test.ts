import assert from "node:assert/strict";
import fc from "fast-check";
import { isCompleted, parseFailure, parsePage, parseUploadId } from "./s3_xml.ts";
import { XmlError } from "./xml_text.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

function page(inner: string): string {
  return `<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${inner}</ListBucketResult>`;
}

const OBJECT = "<LastModified>2026-01-02T03:04:05.000Z</LastModified><Size>7</Size>";

Deno.test("a page of a listing is read, with and without encoded keys", () => {
  const plain = page(
    `<IsTruncated>false</IsTruncated><Contents><Key>a &amp; &#x62;%20+</Key>${OBJECT}</Contents>`,
  );
  assert.deepEqual(parsePage(bytes(plain)), {
    objects: [{ key: "a & b%20+", bytes: 7, modifiedMs: Date.UTC(2026, 0, 2, 3, 4, 5) }],
    prefixes: [],
    next: undefined,
  });
  const encoded = page(
    `<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextContinuationToken>n</NextContinuationToken>` +
      `<Contents><Key>a+%2B%20</Key>${OBJECT}</Contents><CommonPrefixes><Prefix>p%2F</Prefix></CommonPrefixes>`,
  );
  const { objects, prefixes, next } = parsePage(bytes(encoded));
  assert.deepEqual([objects[0]?.key, prefixes, next], ["a + ", ["p/"], "n"]);
  assert.deepEqual(parsePage(bytes(page(""))), { objects: [], prefixes: [], next: undefined });
});

Deno.test("a key of any characters survives the escapes of XML", () => {
  const escape = (text: string): string => text.replace(/[<>&"']/g, (c) => `&#${c.charCodeAt(0)};`);
  fc.assert(fc.property(fc.stringMatching(/^[a-z<>&"';#x0-9 ]{1,30}$/), (key) => {
    const text = page(`<Contents><Key>${escape(key)}</Key>${OBJECT}</Contents>`);
    assert.equal(parsePage(bytes(text)).objects[0]?.key, key);
  }));
});

Deno.test("what is no listing is refused, and no entity is expanded", () => {
  const bomb = `<!DOCTYPE b [<!ENTITY a "xx"><!ENTITY b "&a;&a;&a;">]>${
    page("<Contents><Key>&b;</Key></Contents>")
  }`;
  const cases = [
    bomb,
    "",
    "no",
    "<html><body>proxy</body></html>",
    page(`<Contents><Key>a</Key><Size>-1</Size></Contents>`),
    page(`<Contents><Key>a</Key><Size>1</Size><LastModified>then</LastModified></Contents>`),
    page(`<IsTruncated>true</IsTruncated>`),
    page(`<EncodingType>url</EncodingType><Contents><Key>%zz</Key>${OBJECT}</Contents>`),
  ];
  for (const text of cases) assert.throws(() => parsePage(bytes(text)), XmlError, text);
  assert.equal(
    parsePage(bytes(page(`<Contents><Key>&bomb;</Key>${OBJECT}</Contents>`))).objects[0]?.key,
    "&bomb;",
  );
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (data) => {
    try {
      parsePage(data);
    } catch (error) {
      assert.ok(error instanceof XmlError);
    }
    assert.equal(typeof parseFailure(data).code, "string");
  }));
});

Deno.test("errors and the answers of uploads are read", () => {
  const error = bytes(
    "<Error><Code>PermanentRedirect</Code><Message>m</Message><Region>eu-1</Region></Error>",
  );
  assert.deepEqual(parseFailure(error), { code: "PermanentRedirect", message: "m", region: "eu-1" });
  assert.deepEqual(parseFailure(bytes("<html>")), { code: "", message: "", region: "" });
  const begun = "<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>";
  assert.equal(parseUploadId(bytes(begun)), "u1");
  assert.throws(() => parseUploadId(error), XmlError);
  assert.equal(
    isCompleted(bytes("<CompleteMultipartUploadResult><Key>k</Key></CompleteMultipartUploadResult>")),
    true,
  );
  assert.equal(isCompleted(error), false);
});
