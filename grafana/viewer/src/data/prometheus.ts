// The HTTP API of Prometheus, by way of the server that served this page.

import { Asker } from './asker';

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

// A browser opens six connections to a host; more would wait there, where nothing can be taken back.
const asker = new Asker(6);

async function ask<T>(path: string, parameters: Record<string, string>, signal?: AbortSignal): Promise<T> {
  const body = new URLSearchParams(parameters).toString();
  return (await asker.ask(`${path}?${body}`, (mine) => post(path, body, mine), signal)) as T;
}

async function post(path: string, body: string, signal: AbortSignal): Promise<unknown> {
  const headers = { 'Content-Type': 'application/x-www-form-urlencoded' };
  return answered(() => fetch(path, { method: 'POST', headers, body, signal }));
}

async function answered(send: () => Promise<Response>): Promise<unknown> {
  let response: Response;
  try {
    response = await send();
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') {
      throw error;
    }
    throw new QueryError('The server of this page does not answer. Is the stack running?');
  }
  let answer: Answer<unknown>;
  try {
    answer = (await response.json()) as Answer<unknown>;
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') {
      throw error;
    }
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
  if (data.resultType !== 'vector') {
    throw new QueryError(`The query gives a ${data.resultType}, which no panel can show at one moment.`);
  }
  const vector = data.result as Array<{ metric: Labels; value: [number, string] }>;
  return vector.map(({ metric, value }) => ({ metric, values: [value] }));
}

export async function labelValues(label: string, series: string | undefined, signal?: AbortSignal): Promise<string[]> {
  const query = series ? `?${new URLSearchParams({ 'match[]': series })}` : '';
  const path = `/api/v1/label/${encodeURIComponent(label)}/values${query}`;
  return (await asker.ask(path, (mine) => answered(() => fetch(path, { signal: mine })), signal)) as string[];
}
