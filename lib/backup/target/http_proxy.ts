/**
 * Which proxy an object store is reached through: HTTP_PROXY, HTTPS_PROXY and NO_PROXY, by their usual meaning.
 *
 * @module
 */
import type { Credentials } from "./credentials.ts";
import { HttpError } from "./http_message.ts";

/** True when a proxy is to be left out for a host, by the usual meaning of NO_PROXY. */
export function bypassesProxy(host: string, noProxy: string): boolean {
  const name = host.replace(/^\[|\]$/g, "").toLowerCase();
  return noProxy.split(",").map((one) => one.trim().toLowerCase()).some((one) => {
    if (one === "") return false;
    if (one === "*" || one === name) return true;
    const network = /^(\d+\.\d+\.\d+\.\d+)\/(\d+)$/.exec(one);
    if (network !== null) return inNetwork(name, network[1] ?? "", Number(network[2]));
    return name.endsWith(one.startsWith(".") ? one : `.${one}`);
  });
}

function ipv4(text: string): number | undefined {
  const parts = text.split(".").map(Number);
  if (parts.length !== 4 || parts.some((part) => !(part >= 0 && part <= 255))) return undefined;
  return parts.reduce((sum, part) => sum * 256 + part, 0);
}

function inNetwork(host: string, network: string, bits: number): boolean {
  const a = ipv4(host), b = ipv4(network);
  if (a === undefined || b === undefined || bits > 32) return false;
  const size = 2 ** (32 - bits);
  return Math.floor(a / size) === Math.floor(b / size);
}

/** The proxy for a server; undefined when it is reached directly. @throws {HttpError} when what is set is none */
export function proxyFor(endpoint: URL, credentials: Credentials): Deno.Proxy | undefined {
  const text = credentials.get(endpoint.protocol === "https:" ? "HTTPS_PROXY" : "HTTP_PROXY");
  if (text === undefined || bypassesProxy(endpoint.hostname, credentials.get("NO_PROXY") ?? "")) {
    return undefined;
  }
  let url: URL;
  try {
    url = new URL(text.includes("://") ? text : `http://${text}`);
  } catch {
    // The text is not quoted: it may hold a password.
    throw new HttpError("the proxy (HTTP_PROXY, HTTPS_PROXY) is not a URL", false);
  }
  const basicAuth = url.username === ""
    ? undefined
    : { username: decodeURIComponent(url.username), password: decodeURIComponent(url.password) };
  url.username = url.password = "";
  const transport = ({ "http:": "http", "https:": "https", "socks5:": "socks5" } as const)[
    url.protocol as "http:" | "https:" | "socks5:"
  ];
  if (transport === undefined) throw new HttpError("the proxy is neither http, https nor socks5", false);
  return { transport, url: url.href, ...(basicAuth && { basicAuth }) };
}
