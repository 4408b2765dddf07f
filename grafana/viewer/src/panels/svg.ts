/** A point on a circle; 0 is up, and angles (in turns) go clockwise. */
export function point(x: number, y: number, radius: number, turn: number): [number, number] {
  const angle = (turn - 0.25) * 2 * Math.PI;
  return [x + radius * Math.cos(angle), y + radius * Math.sin(angle)];
}

/** The path of a ring's part between two turns. A whole turn is drawn just short of it: an arc to its start is none. */
export function ring(x: number, y: number, inner: number, outer: number, from: number, to: number): string {
  const end = Math.min(to, from + 0.99999);
  const large = end - from > 0.5 ? 1 : 0;
  const [a, b, c, d] = [point(x, y, outer, from), point(x, y, outer, end), point(x, y, inner, end), point(x, y, inner, from)];
  const text = ([px, py]: [number, number]) => `${px.toFixed(2)} ${py.toFixed(2)}`;
  return `M${text(a)}A${outer} ${outer} 0 ${large} 1 ${text(b)}L${text(c)}A${inner} ${inner} 0 ${large} 0 ${text(d)}Z`;
}
