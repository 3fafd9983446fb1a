import protobuf from 'protobufjs';

/** The messages of ONNX's `onnx.proto` that a model of ours needs, with their numbers there. */
const ONNX_PROTO = `
syntax = "proto2";
package onnx;
message AttributeProto {
  optional string name = 1;
  optional float f = 2;
  optional int64 i = 3;
  repeated int64 ints = 8;
  optional int32 type = 20;
}
message NodeProto {
  repeated string input = 1;
  repeated string output = 2;
  optional string name = 3;
  optional string op_type = 4;
  repeated AttributeProto attribute = 5;
}
message TensorProto {
  repeated int64 dims = 1;
  optional int32 data_type = 2;
  optional string name = 8;
  optional bytes raw_data = 9;
}
message Dimension { optional int64 dim_value = 1; optional string dim_param = 2; }
message TensorShapeProto { repeated Dimension dim = 1; }
message TensorType { optional int32 elem_type = 1; optional TensorShapeProto shape = 2; }
message TypeProto { optional TensorType tensor_type = 1; }
message ValueInfoProto { optional string name = 1; optional TypeProto type = 2; }
message GraphProto {
  repeated NodeProto node = 1;
  optional string name = 2;
  repeated TensorProto initializer = 5;
  repeated ValueInfoProto input = 11;
  repeated ValueInfoProto output = 12;
}
message OperatorSetIdProto { optional string domain = 1; optional int64 version = 2; }
message ModelProto {
  optional int64 ir_version = 1;
  optional string producer_name = 2;
  optional GraphProto graph = 7;
  repeated OperatorSetIdProto opset_import = 8;
}
`;

/** Of 2022; any ONNX Runtime from 1.12 on takes them. */
const IR_VERSION = 8;
const OPERATOR_SET = 17;
/** `TensorProto.DataType` and `AttributeProto.AttributeType`. */
const [FLOAT, INT64] = [1, 7];
const [ATTRIBUTE_FLOAT, ATTRIBUTE_INT, ATTRIBUTE_INTS] = [1, 2, 7];

const ModelProto = protobuf.parse(ONNX_PROTO, { keepCase: true }).root.lookupType('onnx.ModelProto');

export interface OnnxNode {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly output: string;
  /** A number is an integer unless it says otherwise. */
  readonly attributes?: Readonly<Record<string, number | readonly number[] | { readonly float: number }>>;
}

export interface OnnxConstant {
  readonly name: string;
  readonly dimensions: readonly number[];
  /** 32-bit floats, or 64-bit integers. */
  readonly values: Float32Array | BigInt64Array;
}

export interface OnnxValue {
  readonly name: string;
  /** A name stands for a dimension that is free. */
  readonly dimensions: readonly (number | string)[];
}

export interface OnnxGraph {
  readonly name: string;
  readonly input: OnnxValue;
  readonly output: OnnxValue;
  readonly constants: readonly OnnxConstant[];
  /** In the order in which they run. */
  readonly nodes: readonly OnnxNode[];
}

/**
 * The bytes of an ONNX model of 32-bit floats: the same bytes for the same graph.
 * @see https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
 */
export function writeOnnx(graph: OnnxGraph): Uint8Array {
  const value = ({ name, dimensions }: OnnxValue) => ({
    name,
    type: {
      tensor_type: {
        elem_type: FLOAT,
        shape: { dim: dimensions.map((one) => (typeof one === 'number' ? { dim_value: one } : { dim_param: one })) },
      },
    },
  });
  const model = {
    ir_version: IR_VERSION,
    producer_name: 'entryphone',
    opset_import: [{ domain: '', version: OPERATOR_SET }],
    graph: {
      name: graph.name,
      input: [value(graph.input)],
      output: [value(graph.output)],
      initializer: graph.constants.map(({ name, dimensions, values }) => ({
        name,
        dims: dimensions,
        data_type: values instanceof Float32Array ? FLOAT : INT64,
        raw_data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
      })),
      node: graph.nodes.map(({ op, inputs, output, attributes = {} }) => ({
        name: output,
        op_type: op,
        input: inputs,
        output: [output],
        attribute: Object.entries(attributes).map(([name, one]) => attribute(name, one)),
      })),
    },
  };
  const fault = ModelProto.verify(model);
  if (fault !== null) throw new TypeError(`No ONNX model: ${fault}`);
  return Uint8Array.from(ModelProto.encode(model).finish());
}

function attribute(name: string, value: number | readonly number[] | { readonly float: number }): object {
  if (typeof value === 'number') return { name, i: value, type: ATTRIBUTE_INT };
  if ('float' in value) return { name, f: value.float, type: ATTRIBUTE_FLOAT };
  return { name, ints: value, type: ATTRIBUTE_INTS };
}
