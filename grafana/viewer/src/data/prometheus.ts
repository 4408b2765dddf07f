// The HTTP API of Prometheus, by way of the server that served this page.

export type Labels = Record<string, string>;

export interface Series {
  metric: Labels;
  // Seconds and the value as text.
  values: Array<[number, string]>;
}

export class QueryError extends Error {}

interface Answer<T> {
  status: 'success' | 'error';
  data: T;
  error?: string;
  warnings?: string[];
}

async function ask<T>(path: string, parameters: Record<string, string>, signal?: AbortSignal): Promise<T> {
  let response: Response;
  try {
    response = await fetch(path, { method: 'POST', body: new URLSearchParams(parameters), signal });
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') {
      throw error;
    }
    throw new QueryError('The server of this page does not answer. Is the stack running?');
  }
  let answer: Answer<T>;
  try {
    answer = (await response.json()) as Answer<T>;
  } catch {
    throw new QueryError(`Prometheus answered ${response.status} and no JSON.`);
  }
  if (answer.status !== 'success') {
    throw new QueryError(answer.error ?? `Prometheus answered ${response.status}.`);
  }
  return answer.data;
}

export async function queryRange(
  query: string,
  start: number,
  end: number,
  step: number,
  signal?: AbortSignal,
): Promise<Series[]> {
  const parameters = { query, start: String(start), end: String(end), step: String(step) };
  return (await ask<{ result: Series[] }>('/api/v1/query_range', parameters, signal)).result;
}

interface InstantResult {
  resultType: 'vector' | 'scalar' | 'matrix' | 'string';
  result: Array<{ metric: Labels; value: [number, string] }> | [number, string];
}

export async function queryNow(query: string, time: number, signal?: AbortSignal): Promise<Series[]> {
  const data = await ask<InstantResult>('/api/v1/query', { query, time: String(time) }, signal);
  if (data.resultType === 'scalar') {
    return [{ metric: {}, values: [data.result as [number, string]] }];
  }
  const vector = data.result as Array<{ metric: Labels; value: [number, string] }>;
  return vector.map(({ metric, value }) => ({ metric, values: [value] }));
}

export async function labelValues(label: string, series: string, signal?: AbortSignal): Promise<string[]> {
  const parameters = new URLSearchParams({ 'match[]': series });
  const response = await fetch(`/api/v1/label/${encodeURIComponent(label)}/values?${parameters}`, { signal });
  const answer = (await response.json()) as Answer<string[]>;
  if (answer.status !== 'success') {
    throw new QueryError(answer.error ?? `Prometheus answered ${response.status}.`);
  }
  return answer.data;
}
