// What a dashboard's JSON has to be, of Grafana's own types: a type for each of its parts.
// Where the schema says only `unknown` there is more here: a panel's options and its fields' own settings are those of
// its kind, an override's value is of the setting that it overrides, a transformation's options are of its id.
import type { DataTransformerInfo, standardTransformers } from "@grafana/data";
import type {
  AnnotationQuery,
  Dashboard,
  DataQuery,
  DataTransformerConfig,
  FieldConfig,
  MatcherConfig,
  Panel,
  RowPanel,
  VariableModel,
} from "@grafana/schema";
import type * as heatmap from "@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen";
import type * as stat from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type * as timeline from "@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen";
import type * as table from "@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen";
import type * as timeseries from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";
import type * as trend from "@grafana/schema/dist/esm/raw/composable/trend/panelcfg/x/TrendPanelCfg_types.gen";
import type * as xychart from "@grafana/schema/dist/esm/raw/composable/xychart/panelcfg/x/XYChartPanelCfg_types.gen";

// As it is in JSON, where an enum of strings is one of these strings.
type Plain<T> = T extends string
  ? `${T}`
  : T extends (infer Item)[]
    ? Plain<Item>[]
    : T extends object
      ? { [Key in keyof T]: Plain<T[Key]> }
      : T;

// A query of Prometheus: its type comes with the data source, not with the schema.
interface Query extends DataQuery {
  expr: string;
  format?: "time_series" | "table" | "heatmap";
  instant?: boolean;
  interval?: string;
  legendFormat?: string;
  range?: boolean;
}

interface Kinds {
  heatmap: [heatmap.Options, heatmap.FieldConfig];
  stat: [stat.Options, Record<string, never>];
  "state-timeline": [timeline.Options, timeline.FieldConfig];
  table: [table.Options, table.FieldConfig];
  timeseries: [timeseries.Options, timeseries.FieldConfig];
  trend: [trend.Options, trend.FieldConfig];
  xychart: [xychart.Options, xychart.FieldConfig];
}

type OptionsOf<T> = T extends DataTransformerInfo<infer Options> ? Options : never;
type Standard = typeof standardTransformers;
interface Transformations {
  filterByValue: OptionsOf<Standard["filterByValueTransformer"]>;
  groupBy: OptionsOf<Standard["groupByTransformer"]>;
  groupingToMatrix: OptionsOf<Standard["groupingToMatrixTransformer"]>;
  joinByField: OptionsOf<Standard["joinByFieldTransformer"]>;
  merge: Record<string, never>;
  organize: OptionsOf<Standard["organizeFieldsTransformer"]>;
  sortBy: OptionsOf<Standard["sortByTransformer"]>;
}
type Transformation = {
  [Id in keyof Transformations]: Omit<DataTransformerConfig, "id" | "options"> & {
    id: Id;
    options: Transformations[Id];
  };
}[keyof Transformations];

type Fields<Custom> = Omit<FieldConfig, "custom"> & { custom?: Custom };
type Property<Config, Prefix extends string = ""> = {
  [Key in keyof Config & string]-?: { id: `${Prefix}${Key}`; value: Config[Key] };
}[keyof Config & string];
interface Override<Custom> {
  matcher: MatcherConfig;
  properties: (Property<Omit<FieldConfig, "custom">> | Property<Custom, "custom.">)[];
}

export type PanelOf<Kind extends keyof Kinds> = Plain<
  Omit<Panel, "type" | "options" | "fieldConfig" | "targets" | "transformations"> & {
    type: Kind;
    options: Kinds[Kind][0];
    fieldConfig: { defaults: Fields<Kinds[Kind][1]>; overrides: Override<Kinds[Kind][1]>[] };
    targets: Query[];
    transformations?: Transformation[];
  }
>;
export type Row = Plain<RowPanel>;
export type Variable = Plain<VariableModel>;
export type Annotation = Plain<AnnotationQuery<Query>>;
export type Page = Plain<Omit<Dashboard, "panels" | "templating" | "annotations">>;
