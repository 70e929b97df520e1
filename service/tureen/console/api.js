// The public HTTP API, as any client uses it. Keys live in these arguments and nowhere else.

/** An error as the server says it: code, message, field, got, limit, retry_after_s. */
export class ApiError extends Error {
  constructor(info) {
    super(info.message);
    this.info = info;
  }
}

/** The JSON answer; raises ApiError. Paths are relative, so a proxy may put the console anywhere. */
export async function call(path, { body, key, method } = {}) {
  const headers = {};
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method: method ?? (body === undefined ? "GET" : "POST"),
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "omit",
    });
  } catch {
    throw new ApiError({ code: "unreachable", message: "The server cannot be reached. Is it running?" });
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer !== null) return answer;
  throw new ApiError(answer?.error ?? { code: `http_${response.status}`, message: `The server answered ${response.status} and gave no reason.` });
}

export async function metricsText() {
  const response = await fetch("metrics", { credentials: "omit" });
  if (!response.ok) throw new Error(`/metrics answered ${response.status}.`);
  return response.text();
}
