import { Combobox, Input, MultiCombobox, useTheme2, type ComboboxOption } from '@grafana/ui';
import { ALL, type Chosen } from './data/interpolate';
import type { Link } from './data/links';
import type { Annotation, Variable } from './data/model';

interface Props {
  variables: Variable[];
  options: Record<string, string[]>;
  chosen: Chosen;
  onChoose: (name: string, values: string[]) => void;
  annotations: Annotation[];
  hidden: ReadonlySet<string>;
  onAnnotation: (name: string) => void;
  links: Link[];
}

/** What the dashboard lets one choose: variables, annotations; and where it leads. */
export function Variables({ variables, options, chosen, onChoose, annotations, hidden, onAnnotation, links }: Props) {
  const { visualization } = useTheme2();
  if (variables.length + annotations.length + links.length === 0) {
    return null;
  }
  return (
    <div className="bar variables" role="group" aria-label="Variables and annotations">
      {variables.map((variable) => (
        <div key={variable.name} className="variable">
          <label htmlFor={`variable-${variable.name}`}>{variable.label ?? variable.name}</label>
          <Choice
            variable={variable}
            values={options[variable.name] ?? []}
            chosen={chosen[variable.name] ?? []}
            onChoose={(values) => onChoose(variable.name, values)}
          />
        </div>
      ))}
      {annotations.map(({ name, iconColor }) => (
        <button key={name} type="button" className="pill" aria-pressed={!hidden.has(name)} onClick={() => onAnnotation(name)}>
          <i style={{ background: visualization.getColorByName(iconColor) }} />
          {name}
        </button>
      ))}
      <div className="spacer" />
      {links.map(({ title, href, newTab, tooltip }) => (
        <a key={title} className="link" href={href} title={tooltip} {...(newTab ? { target: '_blank', rel: 'noreferrer' } : {})}>
          {title}
        </a>
      ))}
    </div>
  );
}

interface ChoiceProps {
  variable: Variable;
  values: string[];
  chosen: string[];
  onChoose: (values: string[]) => void;
}

function Choice({ variable, values, chosen, onChoose }: ChoiceProps) {
  const id = `variable-${variable.name}`;
  if (variable.type === 'textbox') {
    return (
      <Input
        key={chosen[0]}
        id={id}
        width={20}
        defaultValue={chosen[0] ?? ''}
        onBlur={(event) => event.currentTarget.value !== chosen[0] && onChoose([event.currentTarget.value])}
        onKeyDown={(event) => event.key === 'Enter' && event.currentTarget.blur()}
      />
    );
  }
  const options = optionsOf(variable, values, chosen);
  if (!variable.multi) {
    return (
      <Combobox id={id} width="auto" minWidth={16} maxWidth={50} options={options} value={chosen[0]} onChange={({ value }) => onChoose([value])} />
    );
  }
  return (
    <MultiCombobox
      id={id}
      width="auto"
      minWidth={16}
      maxWidth={50}
      options={options}
      value={chosen}
      onChange={(picked) => onChoose(settle(variable, picked, chosen))}
    />
  );
}

function optionsOf(variable: Variable, values: string[], chosen: string[]): ComboboxOption[] {
  const all = variable.includeAll ? [{ label: 'All', value: ALL }] : [];
  // What was chosen and is gone stays to be seen, and to be taken back.
  const gone = chosen.filter((value) => value !== ALL && !values.includes(value));
  return [...all, ...[...values, ...gone].map((value) => ({ label: value, value }))];
}

// "All" and single values exclude each other; the last pick decides.
function settle(variable: Variable, picked: ComboboxOption[], before: string[]): string[] {
  const values = picked.map(({ value }) => value);
  if (values.length === 0) {
    return variable.includeAll ? [ALL] : before;
  }
  return values.includes(ALL) && !before.includes(ALL) ? [ALL] : values.filter((value) => value !== ALL);
}
