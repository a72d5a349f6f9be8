// Hands the operators of this library to ONNX Runtime.
//
// Shapes are not inferred for ONNX Runtime's graph: it would warn of sizes that are not known yet.
// The kernel's own inference runs when it is called.

#include <sched.h>

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "calls.hpp"
#include "onnxruntime_abi.h"
#include "shipway_op.h"

namespace shipway::ort {
namespace {

constexpr int kMostPieces = 64;  // of one call: enough to balance any pool, too few to cost anything
constexpr int kIntMax = 2147483647;

// ONNX Runtime does not tell the size of its pool; it is seldom larger than this.
std::int32_t usable_cores() {
  static const std::int32_t cores = [] {
    cpu_set_t set;
    CPU_ZERO(&set);
    const bool known = sched_getaffinity(0, sizeof set, &set) == 0;
    return std::clamp<std::int32_t>(known ? CPU_COUNT(&set) : 1, 1, kMostPieces);
  }();
  return cores;
}

struct Operator : OrtCustomOp {
  const shipway_op* op;
  std::string name;  // the operator's own, or an alias
  std::int32_t float_type, index_type;
  OrtFunctions functions;
};

struct Attribute {
  shipway_attribute value{};
  std::vector<std::int64_t> ints;
  std::vector<double> floats;
};

struct Kernel {
  const Operator* owner;
  std::vector<Attribute> attributes;
  std::vector<shipway_attribute> views;
};

const Operator* as_operator(const OrtCustomOp* base) { return static_cast<const Operator*>(base); }

OrtStatus* status(OrtFunctions functions, const std::string& message) {
  constexpr int kFail = 1;
  return call<OrtStatus*>(functions, kCreateStatus, kFail, message.c_str());
}

// Whether a call succeeded; a status is dropped.
bool succeeded(OrtFunctions functions, OrtStatus* made) {
  if (made == nullptr) return true;
  call<void>(functions, kReleaseStatus, made);
  return false;
}

int element_type(const Operator& self, char letter) {
  switch (letter) {
    case 'T': return self.float_type;
    case 'I': return self.index_type;
    case 'f': return SHIPWAY_FLOAT32;
    case 'd': return SHIPWAY_FLOAT64;
    case 'h': return SHIPWAY_FLOAT16;
    case 'l': return SHIPWAY_INT64;
    case 'i': return SHIPWAY_INT32;
    case 'u': return SHIPWAY_UINT8;
    default: return SHIPWAY_BOOL;
  }
}

// ONNX Runtime's own codes are ONNX's for all types that kernels take.
bool read_attribute(OrtFunctions f, const OrtKernelInfo* info, const shipway_attribute_spec& spec,
                    Attribute& out) {
  out.value.name = spec.name;
  out.value.kind = spec.kind;
  out.value.i = spec.i;
  out.value.f = spec.f;
  bool found = false;
  if (spec.kind == SHIPWAY_ATTR_INT) {
    std::int64_t number = 0;
    found = succeeded(f, call<OrtStatus*>(f, kKernelInfoGetAttributeInt64, info, spec.name, &number));
    if (found) out.value.i = number;
  } else if (spec.kind == SHIPWAY_ATTR_FLOAT) {
    float number = 0;
    found = succeeded(f, call<OrtStatus*>(f, kKernelInfoGetAttributeFloat, info, spec.name, &number));
    if (found) out.value.f = static_cast<double>(number);
  } else if (spec.kind == SHIPWAY_ATTR_INTS) {
    std::size_t count = 0;
    found = succeeded(f, call<OrtStatus*>(f, kKernelInfoGetAttributeArrayInt64, info, spec.name,
                                          static_cast<std::int64_t*>(nullptr), &count));
    out.ints.assign(spec.ints, spec.ints + (found ? 0 : spec.count));
    if (found) {
      out.ints.resize(count);
      succeeded(f, call<OrtStatus*>(f, kKernelInfoGetAttributeArrayInt64, info, spec.name,
                                    out.ints.data(), &count));
    }
  } else {
    std::size_t count = 0;
    found = succeeded(f, call<OrtStatus*>(f, kKernelInfoGetAttributeArrayFloat, info, spec.name,
                                          static_cast<float*>(nullptr), &count));
    out.floats.assign(spec.floats, spec.floats + (found ? 0 : spec.count));
    if (found) {
      std::vector<float> numbers(count);
      succeeded(f, call<OrtStatus*>(f, kKernelInfoGetAttributeArrayFloat, info, spec.name,
                                    numbers.data(), &count));
      out.floats.assign(numbers.begin(), numbers.end());
    }
  }
  out.value.ints = out.ints.data();
  out.value.floats = out.floats.data();
  out.value.count = static_cast<std::int64_t>(std::max(out.ints.size(), out.floats.size()));
  return found || spec.required == 0;
}

OrtStatus* create_kernel(const OrtCustomOp* base, OrtFunctions f, const OrtKernelInfo* info,
                         void** out) {
  const Operator* self = as_operator(base);
  try {
    auto kernel = std::make_unique<Kernel>();
    kernel->owner = self;
    kernel->attributes.resize(static_cast<std::size_t>(self->op->attribute_count));
    for (std::int32_t at = 0; at < self->op->attribute_count; ++at) {
      const shipway_attribute_spec& spec = self->op->attributes[at];
      Attribute& attribute = kernel->attributes[static_cast<std::size_t>(at)];
      if (!read_attribute(f, info, spec, attribute)) {
        return status(f, std::string(self->op->name) + ": the attribute " + spec.name + " is missing");
      }
      kernel->views.push_back(attribute.value);
    }
    *out = kernel.release();
    return nullptr;
  } catch (const std::exception& error) {
    return status(f, std::string(self->op->name) + ": " + error.what());
  }
}

// One call: its tensors, and what the host needs to know.
struct Call {
  const Kernel* kernel;
  OrtFunctions functions;
  OrtKernelContext* context;
  shipway_tensor inputs[SHIPWAY_MAX_TENSORS]{};
  std::vector<std::int64_t> shapes[SHIPWAY_MAX_TENSORS];
  std::vector<std::int64_t> widened[SHIPWAY_MAX_TENSORS];
  shipway_tensor outputs[SHIPWAY_MAX_TENSORS]{};
  shipway_shape out_shapes[SHIPWAY_MAX_TENSORS]{};
  bool allocated[SHIPWAY_MAX_TENSORS]{};
  std::string message;
};

struct Pieces {
  shipway_body body;
  void* context;
  std::int64_t count, each;
};

void run_piece(void* data, std::size_t at) {
  const Pieces& pieces = *static_cast<const Pieces*>(data);
  const std::int64_t begin = static_cast<std::int64_t>(at) * pieces.each;
  const std::int64_t end = std::min(begin + pieces.each, pieces.count);
  if (begin < end) pieces.body(begin, end, pieces.context);
}

void parallel_for(shipway_host* host, std::int64_t count, std::int64_t grain, shipway_body body,
                  void* context) {
  const Call& self = *static_cast<const Call*>(host->opaque);
  const std::int64_t each =
      std::max<std::int64_t>({grain, (count + kMostPieces - 1) / kMostPieces, 1});
  const std::size_t number = static_cast<std::size_t>((count + each - 1) / each);
  if (number <= 1) {
    body(0, count, context);
    return;
  }
  Pieces pieces{body, context, count, each};
  void (*const piece)(void*, std::size_t) = run_piece;
  const std::size_t any_batch = 0;
  OrtStatus* made = call<OrtStatus*>(self.functions, kKernelContextParallelFor,
                                     static_cast<const OrtKernelContext*>(self.context), piece,
                                     number, any_batch, static_cast<void*>(&pieces));
  if (!succeeded(self.functions, made)) body(0, count, context);  // it refuses before it begins
}

bool make_output(Call& self, std::int32_t at, const std::int64_t* shape, std::int32_t rank) {
  OrtValue* value = nullptr;
  const auto index = static_cast<std::size_t>(at);
  const auto size = static_cast<std::size_t>(rank);
  std::copy(shape, shape + rank, self.out_shapes[at].dims);
  self.out_shapes[at].rank = rank;
  const std::int64_t* dims = self.out_shapes[at].dims;
  if (!succeeded(self.functions, call<OrtStatus*>(self.functions, kKernelContextGetOutput,
                                                  self.context, index, dims, size, &value)) ||
      value == nullptr) {
    return false;
  }
  void* data = nullptr;
  if (!succeeded(self.functions,
                 call<OrtStatus*>(self.functions, kGetTensorMutableData, value, &data))) {
    return false;
  }
  const Operator& owner = *self.kernel->owner;
  self.outputs[at] = {data, dims, rank, element_type(owner, owner.op->output_types[at])};
  self.allocated[at] = true;
  return true;
}

void* allocate(shipway_host* host, std::int32_t at, const std::int64_t* shape, std::int32_t rank) {
  Call& self = *static_cast<Call*>(host->opaque);
  return make_output(self, at, shape, rank) ? self.outputs[at].data : nullptr;
}

void note_failure(shipway_host* host, const char* message) {
  Call& self = *static_cast<Call*>(host->opaque);
  if (self.message.empty()) self.message.assign(message).resize(std::min<std::size_t>(self.message.size(), 500));
}

bool read_input(Call& self, std::int32_t at, std::size_t given) {
  OrtFunctions f = self.functions;
  shipway_tensor& tensor = self.inputs[at];
  tensor.rank = -1;
  const OrtValue* value = nullptr;
  const auto index = static_cast<std::size_t>(at);
  const OrtKernelContext* context = self.context;
  if (index >= given) return true;
  if (!succeeded(f, call<OrtStatus*>(f, kKernelContextGetInput, context, index, &value))) return false;
  if (value == nullptr) return true;
  OrtTensorTypeAndShapeInfo* info = nullptr;
  if (!succeeded(f, call<OrtStatus*>(f, kGetTensorTypeAndShape, value, &info))) return false;
  const OrtTensorTypeAndShapeInfo* seen = info;
  std::size_t rank = 0;
  int type = 0;
  bool read = succeeded(f, call<OrtStatus*>(f, kGetDimensionsCount, seen, &rank)) &&
              succeeded(f, call<OrtStatus*>(f, kGetTensorElementType, seen, &type));
  if (read) {
    self.shapes[at].resize(rank + 1);  // never empty: a scalar has a shape to point at, too
    read = succeeded(f, call<OrtStatus*>(f, kGetDimensions, seen, self.shapes[at].data(), rank));
  }
  call<void>(f, kReleaseTensorTypeAndShapeInfo, info);
  void* data = nullptr;
  if (!read || rank > SHIPWAY_MAX_RANK ||
      !succeeded(f, call<OrtStatus*>(f, kGetTensorMutableData, const_cast<OrtValue*>(value), &data))) {
    return false;
  }
  tensor = {data, self.shapes[at].data(), static_cast<std::int32_t>(rank), type};
  if (self.kernel->owner->op->input_types[at] == 'I' && type == SHIPWAY_INT32) {
    std::int64_t count = 1;
    for (std::size_t axis = 0; axis < rank; ++axis) count *= self.shapes[at][axis];
    const auto* narrow = static_cast<const std::int32_t*>(data);
    self.widened[at].assign(narrow, narrow + count);
    tensor.data = self.widened[at].data();
    tensor.dtype = SHIPWAY_INT64;
  }
  return true;
}

std::string run(Call& self) {
  const shipway_op& op = *self.kernel->owner->op;
  std::size_t given = 0;
  const OrtKernelContext* context = self.context;
  if (!succeeded(self.functions, call<OrtStatus*>(self.functions, kKernelContextGetInputCount,
                                                  context, &given))) {
    return "the number of inputs cannot be read";
  }
  for (std::int32_t at = 0; op.input_types[at] != '\0'; ++at) {
    if (!read_input(self, at, given)) return "input " + std::to_string(at) + " cannot be read";
  }
  shipway_host host{SHIPWAY_OP_ABI, usable_cores(), &self, parallel_for, allocate, note_failure};
  const shipway_attribute* attributes = self.kernel->views.data();
  if (op.infer(self.inputs, attributes, self.out_shapes, &host) != 0) {
    return self.message.empty() ? "the shapes of the inputs do not fit together" : self.message;
  }
  for (std::int32_t at = 0; op.output_types[at] != '\0'; ++at) {
    const shipway_shape shape = self.out_shapes[at];
    const bool known = std::all_of(shape.dims, shape.dims + shape.rank, [](auto d) { return d >= 0; });
    if (known && !make_output(self, at, shape.dims, shape.rank)) {
      return "output " + std::to_string(at) + " cannot be allocated";
    }
  }
  const CallGuard guard(&op);
  if (op.compute(self.inputs, attributes, self.outputs, &host) != 0) {
    return self.message.empty() ? "the kernel failed" : self.message;
  }
  for (std::int32_t at = 0; op.output_types[at] != '\0'; ++at) {
    if (!self.allocated[at]) return "the kernel gave output " + std::to_string(at) + " no shape";
  }
  return "";
}

OrtStatus* compute(void* data, OrtKernelContext* context) {
  const Kernel* kernel = static_cast<const Kernel*>(data);
  OrtFunctions f = kernel->owner->functions;
  try {
    Call self{};
    self.kernel = kernel;
    self.functions = f;
    self.context = context;
    const std::string problem = run(self);
    return problem.empty() ? nullptr : status(f, std::string(kernel->owner->op->name) + ": " + problem);
  } catch (const std::exception& error) {
    return status(f, std::string(kernel->owner->op->name) + ": " + error.what());
  }
}

std::unique_ptr<Operator> make_operator(const shipway_op& op, const std::string& name, int float_type, int index_type,
                                        OrtFunctions functions) {
  auto made = std::make_unique<Operator>();
  static_cast<OrtCustomOp&>(*made) = OrtCustomOp{};
  made->op = &op;
  made->name = name;
  made->float_type = float_type;
  made->index_type = index_type;
  made->functions = functions;
  made->version = kApiVersion;
  made->GetName = [](const OrtCustomOp* base) { return as_operator(base)->name.c_str(); };
  made->GetExecutionProviderType = [](const OrtCustomOp*) -> const char* {
    return "CPUExecutionProvider";
  };
  made->GetInputTypeCount = [](const OrtCustomOp* base) {
    return std::string(as_operator(base)->op->input_types).size();
  };
  made->GetOutputTypeCount = [](const OrtCustomOp* base) {
    return std::string(as_operator(base)->op->output_types).size();
  };
  made->GetInputType = [](const OrtCustomOp* base, std::size_t at) {
    return element_type(*as_operator(base), as_operator(base)->op->input_types[at]);
  };
  made->GetOutputType = [](const OrtCustomOp* base, std::size_t at) {
    return element_type(*as_operator(base), as_operator(base)->op->output_types[at]);
  };
  made->GetInputCharacteristic = [](const OrtCustomOp* base, std::size_t at) {
    return static_cast<int>(as_operator(base)->op->optional_inputs >> at & 1u);
  };
  made->GetOutputCharacteristic = [](const OrtCustomOp*, std::size_t) { return 0; };
  made->GetInputMemoryType = [](const OrtCustomOp*, std::size_t) { return 0; };
  const auto one = [](const OrtCustomOp*) { return 1; };
  made->GetVariadicInputMinArity = one;
  made->GetVariadicInputHomogeneity = one;
  made->GetVariadicOutputMinArity = one;
  made->GetVariadicOutputHomogeneity = one;
  made->CreateKernelV2 = create_kernel;
  made->KernelComputeV2 = compute;
  made->KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  made->GetStartVersion = one;
  made->GetEndVersion = [](const OrtCustomOp*) { return kIntMax; };
  return made;
}

// Everything that ONNX Runtime keeps pointers to; lives as long as the process.
struct Registered {
  std::vector<std::unique_ptr<Operator>> operators;
  std::vector<std::pair<std::string, OrtCustomOpDomain*>> domains;
};

OrtStatus* domain_named(OrtFunctions f, Registered& all, const std::string& name,
                        OrtCustomOpDomain** out) {
  for (const auto& [known, domain] : all.domains) {
    if (known == name) {
      *out = domain;
      return nullptr;
    }
  }
  OrtStatus* made = call<OrtStatus*>(f, kCreateCustomOpDomain, name.c_str(), out);
  if (made == nullptr) all.domains.emplace_back(name, *out);
  return made;
}

OrtStatus* add_operator(OrtFunctions f, Registered& all, const shipway_op& op,
                        const std::string& domain_name, const std::string& name) {
  OrtCustomOpDomain* domain = nullptr;
  if (OrtStatus* made = domain_named(f, all, domain_name, &domain)) return made;
  const std::string types = std::string(op.input_types) + op.output_types;
  std::vector<int> floats{0}, indices{SHIPWAY_INT64};
  if (types.find('T') != std::string::npos) {
    floats.clear();
    for (const std::int32_t* type = op.float_types; *type != 0; ++type) floats.push_back(*type);
  }
  if (types.find('I') != std::string::npos) indices.push_back(SHIPWAY_INT32);
  for (const int index : indices) {
    for (const int type : floats) {
      all.operators.push_back(make_operator(op, name, type, index, f));
      const OrtCustomOp* added = all.operators.back().get();
      if (OrtStatus* made = call<OrtStatus*>(f, kCustomOpDomainAdd, domain, added)) return made;
    }
  }
  return nullptr;
}

OrtStatus* add_all(OrtFunctions f, Registered& all) {
  const shipway_table* table = shipway_ops();
  for (std::int32_t at = 0; at < table->count; ++at) {
    const shipway_op& op = *table->ops[at];
    if (OrtStatus* made = add_operator(f, all, op, op.domain, op.name)) return made;
    for (const char* const* alias = op.aliases; alias != nullptr && *alias != nullptr; ++alias) {
      const std::string full(*alias);
      const std::size_t colons = full.find("::");
      OrtStatus* made = add_operator(f, all, op, full.substr(0, colons), full.substr(colons + 2));
      if (made != nullptr) return made;
    }
  }
  return nullptr;
}

}  // namespace
}  // namespace shipway::ort

extern "C" SHIPWAY_EXPORT OrtStatus* RegisterCustomOps(OrtSessionOptions* options,
                                                       const OrtApiBase* base) {
  using namespace shipway::ort;
  OrtFunctions functions = base->GetApi(kApiVersion);
  if (functions == nullptr) return nullptr;  // older than 1.17: it says itself that it knows no such operator
  try {
    static std::mutex mutex;
    static std::map<OrtFunctions, std::unique_ptr<Registered>> registered;
    const std::lock_guard<std::mutex> lock(mutex);
    std::unique_ptr<Registered>& all = registered[functions];
    if (all == nullptr) {
      auto made = std::make_unique<Registered>();
      if (OrtStatus* failed = add_all(functions, *made)) return failed;
      all = std::move(made);
    }
    for (const auto& entry : all->domains) {
      OrtCustomOpDomain* domain = entry.second;
      if (OrtStatus* failed = call<OrtStatus*>(functions, kAddCustomOpDomain, options, domain)) {
        return failed;
      }
    }
    return nullptr;
  } catch (const std::exception& error) {
    return call<OrtStatus*>(functions, kCreateStatus, 1, error.what());
  }
}
