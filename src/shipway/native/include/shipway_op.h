/* The C interface between a kernel and a runtime.
 *
 * A kernel describes itself with a `shipway_op` and exports a table of them with SHIPWAY_OPS. The
 * adapters beside this file (torch, ONNX Runtime, OpenVINO) read that table; a kernel never sees a
 * runtime, only tensors, attributes and a host that lends it the runtime's own thread pool.
 *
 * Version 1. A struct only ever grows at its end, together with SHIPWAY_OP_ABI.
 */
#ifndef SHIPWAY_OP_H
#define SHIPWAY_OP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SHIPWAY_OP_ABI 1
#define SHIPWAY_EXPORT __attribute__((visibility("default")))

enum { SHIPWAY_MAX_RANK = 8, SHIPWAY_MAX_TENSORS = 16, SHIPWAY_MAX_ATTRIBUTES = 16 };

/* Codes of ONNX's TensorProto.DataType. */
enum {
  SHIPWAY_FLOAT32 = 1,
  SHIPWAY_UINT8 = 2,
  SHIPWAY_INT8 = 3,
  SHIPWAY_INT32 = 6,
  SHIPWAY_INT64 = 7,
  SHIPWAY_BOOL = 9,
  SHIPWAY_FLOAT16 = 10,
  SHIPWAY_FLOAT64 = 11,
  SHIPWAY_BFLOAT16 = 16
};

enum {
  SHIPWAY_ATTR_INT = 1,    /* `i`; a bool is 0 or 1 */
  SHIPWAY_ATTR_FLOAT = 2,  /* `f` */
  SHIPWAY_ATTR_INTS = 3,   /* `ints`, `count` */
  SHIPWAY_ATTR_FLOATS = 4  /* `floats`, `count` */
};

/* A tensor in C order without gaps. An optional input that is absent has rank -1 and no data. While
 * shapes are inferred there is no data either, and a size that is not known yet is -1. */
typedef struct shipway_tensor {
  void* data;
  const int64_t* shape;
  int32_t rank;
  int32_t dtype;
} shipway_tensor;

typedef struct shipway_attribute {
  const char* name;
  int32_t kind;
  int32_t reserved;
  int64_t i;
  double f;
  const int64_t* ints;
  const double* floats;
  int64_t count;
} shipway_attribute;

/* An output shape; a size that depends on the data is -1. */
typedef struct shipway_shape {
  int32_t rank;
  int64_t dims[SHIPWAY_MAX_RANK];
} shipway_shape;

typedef void (*shipway_body)(int64_t begin, int64_t end, void* context);

/* What the runtime lends a kernel for the length of one call. */
typedef struct shipway_host {
  uint32_t abi;
  int32_t threads; /* that parallel_for may use; 1 where there is no pool */
  void* opaque;    /* the adapter's own */
  /* Calls body over [0, count) in pieces of at least `grain`, at the same time on several threads;
   * returns when all are done. The body must not throw. */
  void (*parallel_for)(struct shipway_host*, int64_t count, int64_t grain, shipway_body, void*);
  /* Gives an output whose inferred shape has a -1 its real shape and memory. Returns the memory, or
   * NULL when there is none. Every such output must be given a shape, an empty one too. */
  void* (*allocate)(struct shipway_host*, int32_t output, const int64_t* shape, int32_t rank);
  /* Says why the call fails; the kernel then returns non-zero. The text is copied. */
  void (*fail)(struct shipway_host*, const char* message);
} shipway_host;

typedef struct shipway_attribute_spec {
  const char* name;
  int32_t kind;
  int32_t required;
  int64_t i;        /* default of an int */
  double f;         /* default of a float */
  const int64_t* ints;
  const double* floats;
  int64_t count;
} shipway_attribute_spec;

/* One operator.
 *
 * Types are one letter an input or output:
 *   T  one of `float_types`, the same one for all Ts
 *   I  int64 in the kernel; a model may have int32, which the adapter widens
 *   f d h  float32, float64, float16      l i u b  int64, int32, uint8, bool
 * Write an optional input's letter and set its bit in `optional_inputs`.
 * Inputs come first in the torch schema, attributes after them, both in the order given here. */
typedef struct shipway_op {
  uint32_t abi;    /* SHIPWAY_OP_ABI */
  int32_t version; /* of the operator, the opset version of its domain */
  const char* domain;
  const char* name;       /* ONNX node type, MyAdd */
  const char* torch_name; /* torch operator, my_add, in the namespace `domain` */
  const char* input_types;
  const char* output_types;
  const int32_t* float_types; /* dtypes T may take; ends with 0 */
  uint32_t optional_inputs;   /* bit i: input i may be absent */
  int32_t attribute_count;
  const shipway_attribute_spec* attributes;
  /* Further "domain::Name" under which ONNX files call this operator ("::Name" is the default
   * domain); ends with NULL. May be NULL. */
  const char* const* aliases;
  /* Fills the output shapes from the input shapes. Non-zero: these inputs do not fit together. */
  int (*infer)(const shipway_tensor* inputs, const shipway_attribute* attributes,
               shipway_shape* outputs, struct shipway_host* host);
  /* Computes. Outputs whose shape infer knew have memory. Non-zero: failed, host->fail says why. */
  int (*compute)(const shipway_tensor* inputs, const shipway_attribute* attributes,
                 shipway_tensor* outputs, struct shipway_host* host);
} shipway_op;

/* The table of a library: how adapters and Shipway find its operators. */
typedef struct shipway_table {
  uint32_t abi;
  int32_t count;
  const shipway_op* const* ops;
} shipway_table;

SHIPWAY_EXPORT const shipway_table* shipway_ops(void);

/* SHIPWAY_OPS(&add, &mul) once in a library. */
#define SHIPWAY_OPS(...)                                                                  \
  static const shipway_op* const shipway_table_ops_[] = {__VA_ARGS__};                    \
  static const shipway_table shipway_table_ = {                                           \
      SHIPWAY_OP_ABI, (int32_t)(sizeof(shipway_table_ops_) / sizeof(shipway_table_ops_[0])), \
      shipway_table_ops_};                                                                \
  SHIPWAY_EXPORT const shipway_table* shipway_ops(void) { return &shipway_table_; }

#ifdef __cplusplus
}
#endif
#endif
