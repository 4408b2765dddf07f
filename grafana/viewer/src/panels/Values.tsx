import { FieldType, ReducerID, formattedValueToString, reduceField, type DataFrame, type Field } from '@grafana/data';

// A screen reader says the name of a picture in one go: more series are in the table.
const MOST_SPOKEN = 8;

const CALCS: Array<[ReducerID, string]> = [
  [ReducerID.lastNotNull, 'Last'],
  [ReducerID.min, 'Min'],
  [ReducerID.mean, 'Mean'],
  [ReducerID.max, 'Max'],
];

/** What a picture draws. */
export function series(frames: DataFrame[]): Field[] {
  return frames.flatMap((frame) => frame.fields.filter((field) => field.type === FieldType.number));
}

export function nameOf(field: Field): string {
  return field.state?.displayName ?? field.name;
}

/** One number for all samples of a series, if there is one. */
export function calculation(field: Field, calc: string): number | undefined {
  const value: unknown = reduceField({ field, reducers: [calc] })[calc];
  return typeof value === 'number' && Number.isFinite(value) ? value : undefined;
}

export function calculated(field: Field, calc: string): string {
  const value = calculation(field, calc);
  if (value === undefined) {
    return '–';
  }
  return field.display ? formattedValueToString(field.display(value)) : String(value);
}

/** What a picture shows, in a sentence. */
export function inWords(kind: string, frames: DataFrame[]): string {
  const all = series(frames);
  const told = all.slice(0, MOST_SPOKEN).map((field) => `${nameOf(field)} ${calculated(field, ReducerID.lastNotNull)}`);
  const more = all.length > MOST_SPOKEN ? `, and ${all.length - MOST_SPOKEN} more` : '';
  return `${kind}. Last values: ${told.join(', ')}${more}`;
}

/** The numbers behind a picture, for those whom a picture does not serve. */
export function ValuesTable({ title, frames, height }: { title: string; frames: DataFrame[]; height: number }) {
  return (
    <div className="values" role="group" aria-label={`${title}: values`} tabIndex={0} style={{ height }}>
      <table>
        <thead>
          <tr>
            <th scope="col">Series</th>
            {CALCS.map(([id, name]) => (
              <th key={id} scope="col">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {series(frames).map((field, i) => (
            <tr key={i}>
              <th scope="row">{nameOf(field)}</th>
              {CALCS.map(([id]) => (
                <td key={id}>{calculated(field, id)}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
