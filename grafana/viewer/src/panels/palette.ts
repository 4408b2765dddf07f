/**
 * The colours of lines that have none of their own, in both themes.
 *
 * Grafana's palette begins with green, yellow and red, which mean "well" and "act" here. These mean nothing, and are no
 * colours that a dashboard gives to a line by its name.
 */
export const PALETTE = [
  '#5794F2',
  '#D867B5',
  '#2FB5C7',
  '#B58A5B',
  '#7B6FE0',
  '#8C96A8',
  '#1F8A99',
  '#A64D8F',
  '#82B5D8',
  '#8A6A3F',
];
