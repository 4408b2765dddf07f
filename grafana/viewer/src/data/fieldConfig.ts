import {
  FieldConfigOptionsRegistry,
  FieldConfigProperty,
  FieldType,
  applyFieldOverrides,
  cacheFieldDisplayNames,
  displayNameOverrideProcessor,
  identityOverrideProcessor,
  numberOverrideProcessor,
  stringOverrideProcessor,
  type DataFrame,
  type Field,
  type FieldConfigPropertyItem,
  type FieldConfigSource,
  type GrafanaTheme2,
} from '@grafana/data';
import type { Panel } from './model';

type Item = FieldConfigPropertyItem;

const standard: Array<[FieldConfigProperty, Item['process']]> = [
  [FieldConfigProperty.Unit, identityOverrideProcessor],
  [FieldConfigProperty.Min, numberOverrideProcessor],
  [FieldConfigProperty.Max, numberOverrideProcessor],
  [FieldConfigProperty.FieldMinMax, identityOverrideProcessor],
  [FieldConfigProperty.Decimals, numberOverrideProcessor],
  [FieldConfigProperty.DisplayName, displayNameOverrideProcessor as Item['process']],
  [FieldConfigProperty.NoValue, stringOverrideProcessor as Item['process']],
  [FieldConfigProperty.Thresholds, identityOverrideProcessor],
  [FieldConfigProperty.Mappings, identityOverrideProcessor],
  [FieldConfigProperty.Links, identityOverrideProcessor],
  [FieldConfigProperty.Color, identityOverrideProcessor],
  [FieldConfigProperty.Filterable, identityOverrideProcessor],
];

function item(id: string, path: string, process: Item['process'], isCustom: boolean, appliesTo: Item['shouldApply']): Item {
  const nothing = () => null;
  return { id, path, name: path, process, isCustom, shouldApply: appliesTo, override: nothing, editor: nothing };
}

/**
 * The options that a panel's JSON may set.
 *
 * Outside Grafana this registry is empty, and every option would be ignored without a word.
 */
function registryFor(source: FieldConfigSource, custom: object, type: string): FieldConfigOptionsRegistry {
  const registry = new FieldConfigOptionsRegistry();
  for (const [id, process] of standard) {
    registry.register(item(id, id, process, false, () => true));
  }
  const paths = new Set(Object.keys(custom));
  for (const rule of source.overrides) {
    for (const property of rule.properties) {
      if (property.id.startsWith('custom.')) {
        paths.add(property.id.slice('custom.'.length));
      }
    }
  }
  // A chart's options are for its values: on the time they would add an axis. A table's are for every column.
  const appliesTo = (field: Field) => type === 'table' || field.type === FieldType.number;
  for (const path of paths) {
    registry.register(item(`custom.${path}`, path, identityOverrideProcessor, true, appliesTo));
  }
  return registry;
}

// JSON has no -Infinity: the first step of a threshold is written null.
function withLowestSteps<T>(value: T): T {
  return JSON.parse(JSON.stringify(value), (key, part: unknown) => {
    if (key === 'steps' && Array.isArray(part)) {
      return part.map((step: { value: number | null }) => ({ ...step, value: step.value ?? Number.NEGATIVE_INFINITY }));
    }
    return part;
  }) as T;
}

/** The panel's field options with what its type adds by default. */
export function fieldConfigOf(panel: Panel, defaultCustom: object = {}): FieldConfigSource {
  const source = withLowestSteps(panel.fieldConfig ?? { defaults: {}, overrides: [] });
  return {
    defaults: { ...source.defaults, custom: { ...defaultCustom, ...source.defaults.custom } },
    overrides: source.overrides ?? [],
  };
}

/** *frames* with units, colours, names and the panel's own options worked into each field. */
export function applyConfig(
  frames: DataFrame[],
  source: FieldConfigSource,
  type: string,
  theme: GrafanaTheme2,
  timeZone: string,
): DataFrame[] {
  const applied = applyFieldOverrides({
    data: frames,
    fieldConfig: source,
    fieldConfigRegistry: registryFor(source, source.defaults.custom ?? {}, type),
    replaceVariables: (text) => text,
    theme,
    timeZone,
  });
  cacheFieldDisplayNames(applied);
  return applied;
}
