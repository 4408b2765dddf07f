import { measureText } from '@grafana/ui';
import type uPlot from 'uplot';

const FONT_SIZE = 12;
const LEAST = 8;
const BREATH = 2;

interface Labelled {
  _splits?: number[] | null;
  _values?: Array<string | null> | null;
}

/** So much room on the right that the last time under the axis is not cut off; uPlot asks again once it has the labels. */
const right: uPlot.PaddingSide = (u, _side, sidesWithAxes) => {
  const { min, max } = u.scales.x ?? {};
  const { _splits: splits, _values: labels } = (u.axes[0] ?? {}) as Labelled;
  if (sidesWithAxes[1] || min == null || max == null || max <= min || !splits || !labels) {
    return sidesWithAxes[1] ? 0 : LEAST;
  }
  const plot = u.bbox.width / devicePixelRatio;
  const over = splits.map((at, i) => measureText(labels[i] ?? '', FONT_SIZE).width / 2 - ((max - at) / (max - min)) * plot);
  return Math.max(LEAST, Math.ceil(Math.max(...over)) + BREATH);
};

export const PADDING = [null, right, null, null] as unknown as uPlot.Padding;
