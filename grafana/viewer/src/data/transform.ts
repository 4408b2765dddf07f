import {
  standardTransformers,
  standardTransformersRegistry,
  transformDataFrame,
  type DataFrame,
  type DataTransformerInfo,
} from '@grafana/data';
import { firstValueFrom } from 'rxjs';
import type { Panel } from './model';

/** To be called once, before the first `transform`. */
export function registerTransformers(): void {
  // joinByField is in the list twice, and the registry refuses a second item of one id.
  const byId = new Map<string, DataTransformerInfo>(Object.values(standardTransformers).map((t) => [t.id, t]));
  standardTransformersRegistry.setInit(() =>
    [...byId.values()].map((transformation) => ({
      id: transformation.id,
      name: transformation.name,
      description: transformation.description,
      transformation,
      editor: () => null,
      imageDark: '',
      imageLight: '',
    })),
  );
}

export async function transform(panel: Panel, frames: DataFrame[]): Promise<DataFrame[]> {
  const steps = (panel.transformations ?? []).filter((t) => !t.disabled);
  return steps.length === 0 ? frames : firstValueFrom(transformDataFrame(steps, frames));
}
