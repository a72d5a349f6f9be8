// Hands operators of kernel libraries to OpenVINO: an extension for its Core and its ONNX frontend.
//
// OpenVINO's C++ interface changes with every release, so this file is compiled on the user's
// machine against the installed wheel. It holds no kernels: shipway_openvino_add names the tables of
// the libraries that do, before OpenVINO asks for the extensions.

#include <openvino/core/extension.hpp>
#include <openvino/core/op_extension.hpp>
#include <openvino/frontend/onnx/extension/conversion.hpp>
#include <openvino/op/convert.hpp>
#include <openvino/op/op.hpp>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "shipway_kernel.hpp"

namespace {

using Type = ov::element::Type_t;
using CallKernel = int (*)(const shipway_op*, const shipway_tensor*, const shipway_attribute*,
                           shipway_tensor*, shipway_host*);

struct Known {
  const shipway_op* op = nullptr;
  CallKernel call = nullptr;
  std::string name;
  std::unique_ptr<ov::DiscreteTypeInfo> type;  // points to `name`
};

struct Registry {
  std::mutex mutex;
  std::map<const shipway_op*, Known> operators;
};

Registry& registry() {
  static Registry* all = new Registry;  // outlives every model, whatever the order of destruction
  return *all;
}

std::int32_t code_of(const ov::element::Type& type) {
  switch (static_cast<Type>(type)) {
    case Type::f32: return SHIPWAY_FLOAT32;
    case Type::f16: return SHIPWAY_FLOAT16;
    case Type::bf16: return SHIPWAY_BFLOAT16;
    case Type::f64: return SHIPWAY_FLOAT64;
    case Type::i64: return SHIPWAY_INT64;
    case Type::i32: return SHIPWAY_INT32;
    case Type::u8: return SHIPWAY_UINT8;
    case Type::i8: return SHIPWAY_INT8;
    case Type::boolean: return SHIPWAY_BOOL;
    default: return 0;
  }
}

ov::element::Type type_of(std::int32_t code) {
  switch (code) {
    case SHIPWAY_FLOAT32: return ov::element::f32;
    case SHIPWAY_FLOAT16: return ov::element::f16;
    case SHIPWAY_BFLOAT16: return ov::element::bf16;
    case SHIPWAY_FLOAT64: return ov::element::f64;
    case SHIPWAY_INT32: return ov::element::i32;
    case SHIPWAY_UINT8: return ov::element::u8;
    case SHIPWAY_BOOL: return ov::element::boolean;
    default: return ov::element::i64;
  }
}

// What the kernel takes for a letter other than T.
std::int32_t code_of_letter(char letter) {
  switch (letter) {
    case 'f': return SHIPWAY_FLOAT32;
    case 'd': return SHIPWAY_FLOAT64;
    case 'h': return SHIPWAY_FLOAT16;
    case 'i': return SHIPWAY_INT32;
    case 'u': return SHIPWAY_UINT8;
    case 'b': return SHIPWAY_BOOL;
    default: return SHIPWAY_INT64;
  }
}

// What a node gives for a letter other than T. The CPU plugin computes the wider types in these ones
// but leaves the outputs of nodes it does not know alone, which then do not fit the nodes behind.
ov::element::Type node_type_of(char letter) {
  switch (letter) {
    case 'f': case 'd': case 'h': return ov::element::f32;
    case 'u': case 'b': return ov::element::u8;
    default: return ov::element::i32;
  }
}

template <class From, class To>
void convert(const void* from, void* to, std::size_t count) {
  const auto* source = static_cast<const From*>(from);
  auto* target = static_cast<To*>(to);
  for (std::size_t at = 0; at < count; ++at) target[at] = static_cast<To>(source[at]);
}

// OpenVINO computes int64 as int32 and float64 as float32: the kernel gets what it was written for.
bool convert(std::int32_t from, std::int32_t to, const void* source, void* target, std::size_t count) {
  const auto is = [&](std::int32_t a, std::int32_t b) { return from == a && to == b; };
  if (is(SHIPWAY_INT32, SHIPWAY_INT64)) {
    convert<std::int32_t, std::int64_t>(source, target, count);
  } else if (is(SHIPWAY_INT64, SHIPWAY_INT32)) {
    const auto* wide = static_cast<const std::int64_t*>(source);
    const auto fits = [](std::int64_t number) { return number == static_cast<std::int32_t>(number); };
    if (!std::all_of(wide, wide + count, fits)) return false;  // it would wrap around without a word
    convert<std::int64_t, std::int32_t>(source, target, count);
  } else if (is(SHIPWAY_FLOAT32, SHIPWAY_FLOAT64)) {
    convert<float, double>(source, target, count);
  } else if (is(SHIPWAY_FLOAT64, SHIPWAY_FLOAT32)) {
    convert<double, float>(source, target, count);
  } else if (is(SHIPWAY_FLOAT32, SHIPWAY_FLOAT16)) {
    convert<float, shipway::Float16>(source, target, count);
  } else if (is(SHIPWAY_FLOAT16, SHIPWAY_FLOAT32)) {
    convert<shipway::Float16, float>(source, target, count);
  } else if (is(SHIPWAY_UINT8, SHIPWAY_BOOL) || is(SHIPWAY_BOOL, SHIPWAY_UINT8)) {
    convert<std::uint8_t, std::uint8_t>(source, target, count);
  } else {
    return false;
  }
  return true;
}

std::size_t bytes_of(std::int32_t code) { return type_of(code).size(); }

// One attribute of a node.
struct Attribute {
  std::int64_t i = 0;
  double f = 0;
  std::vector<std::int64_t> ints;
  std::vector<double> floats;
};

// Numbers as text that is read back to the very same bits; OpenVINO's files would round them.
std::string text_of(const std::vector<double>& numbers) {
  std::string text;
  char buffer[40];
  for (const double number : numbers) {
    std::snprintf(buffer, sizeof buffer, "%.17g ", number);
    text += buffer;
  }
  return text;
}

std::vector<double> numbers_in(const std::string& text) {
  std::vector<double> numbers;
  const char* at = text.c_str();
  char* end = nullptr;
  for (double number = std::strtod(at, &end); end != at; number = std::strtod(at, &end)) {
    numbers.push_back(number);
    at = end;
  }
  return numbers;
}

std::vector<Attribute> defaults(const shipway_op& op) {
  std::vector<Attribute> made(static_cast<std::size_t>(op.attribute_count));
  for (std::int32_t at = 0; at < op.attribute_count; ++at) {
    const shipway_attribute_spec& spec = op.attributes[at];
    Attribute& one = made[static_cast<std::size_t>(at)];
    one.i = spec.i;
    one.f = spec.f;
    if (spec.kind == SHIPWAY_ATTR_INTS && spec.count > 0) one.ints.assign(spec.ints, spec.ints + spec.count);
    if (spec.kind == SHIPWAY_ATTR_FLOATS && spec.count > 0) {
      one.floats.assign(spec.floats, spec.floats + spec.count);
    }
  }
  return made;
}

std::vector<shipway_attribute> views_of(const shipway_op& op, const std::vector<Attribute>& attributes) {
  std::vector<shipway_attribute> views(attributes.size());
  for (std::size_t at = 0; at < attributes.size(); ++at) {
    const Attribute& one = attributes[at];
    views[at].name = op.attributes[at].name;
    views[at].kind = op.attributes[at].kind;
    views[at].i = one.i;
    views[at].f = one.f;
    views[at].ints = one.ints.data();
    views[at].floats = one.floats.data();
    views[at].count = static_cast<std::int64_t>(std::max(one.ints.size(), one.floats.size()));
  }
  return views;
}

void parallel_for(shipway_host*, std::int64_t count, std::int64_t grain, shipway_body body,
                  void* context) {
  constexpr std::int64_t kPiecesEach = 8;  // of a thread: enough to balance, too few to cost anything
  const std::int64_t wanted = kPiecesEach * tbb::this_task_arena::max_concurrency();
  const std::int64_t each = std::max<std::int64_t>({grain, (count + wanted - 1) / wanted, 1});
  const std::int64_t pieces = (count + each - 1) / each;
  if (pieces <= 1) {
    body(0, count, context);
    return;
  }
  tbb::parallel_for(std::int64_t{0}, pieces, [&](std::int64_t at) {
    body(at * each, std::min(count, (at + 1) * each), context);
  });
}

// One run of a kernel.
struct Run {
  shipway_tensor inputs[SHIPWAY_MAX_TENSORS]{};
  shipway_tensor outputs[SHIPWAY_MAX_TENSORS]{};
  shipway_shape shapes[SHIPWAY_MAX_TENSORS]{};
  std::vector<std::int64_t> sizes[SHIPWAY_MAX_TENSORS];
  std::vector<char> widened[SHIPWAY_MAX_TENSORS];
  std::vector<char> wide_outputs[SHIPWAY_MAX_TENSORS];
  bool allocated[SHIPWAY_MAX_TENSORS]{};
  std::int32_t t_code = SHIPWAY_FLOAT32;
  const shipway_op* op = nullptr;
  ov::TensorVector* results = nullptr;
  std::string message;

  std::int32_t output_code(std::int32_t at) const {
    const char letter = op->output_types[at];
    return letter == 'T' ? t_code : code_of_letter(letter);
  }

  void* make_output(std::int32_t at, const std::int64_t* shape, std::int32_t rank) {
    std::copy(shape, shape + rank, shapes[at].dims);
    shapes[at].rank = rank;
    ov::Tensor& result = (*results)[static_cast<std::size_t>(at)];
    result.set_shape(ov::Shape(shape, shape + rank));
    const std::int32_t code = output_code(at);
    void* memory = result.data();
    if (code_of(result.get_element_type()) != code) {
      wide_outputs[at].resize(std::max<std::size_t>(1, result.get_size() * bytes_of(code)));
      memory = wide_outputs[at].data();
    }
    outputs[at] = {memory, shapes[at].dims, rank, code};
    allocated[at] = true;
    static char nothing;  // an empty tensor has memory too: NULL means that there is none
    return memory != nullptr ? memory : &nothing;
  }
};

void* allocate(shipway_host* host, std::int32_t at, const std::int64_t* shape, std::int32_t rank) {
  Run& self = *static_cast<Run*>(host->opaque);
  try {
    return self.make_output(at, shape, rank);
  } catch (...) {
    return nullptr;
  }
}

void note_failure(shipway_host* host, const char* message) {
  std::string& known = *static_cast<std::string*>(host->opaque);
  if (known.empty()) known = message;
}

void note_failure_of_run(shipway_host* host, const char* message) {
  std::string& known = static_cast<Run*>(host->opaque)->message;
  if (known.empty()) known = message;
}

// A node of an OpenVINO model that calls a kernel. Inputs that are absent are not inputs of the node;
// `present_` has the bits of those that are there.
class Node : public ov::op::Op {
 public:
  explicit Node(const Known& known) : known_(&known), attributes_(defaults(*known.op)) {}

  Node(const ov::OutputVector& inputs, const Known& known, std::vector<Attribute> attributes,
       std::int64_t present)
      : Op(inputs), known_(&known), attributes_(std::move(attributes)), present_(present) {
    constructor_validate_and_infer_types();
  }

  const ov::NodeTypeInfo& get_type_info() const override { return *known_->type; }

  std::shared_ptr<ov::Node> clone_with_new_inputs(const ov::OutputVector& inputs) const override {
    return std::make_shared<Node>(inputs, *known_, attributes_, present_);
  }

  bool visit_attributes(ov::AttributeVisitor& visitor) override {
    visitor.on_attribute("shipway_present", present_);
    for (std::size_t at = 0; at < attributes_.size(); ++at) {
      const shipway_attribute_spec& spec = known_->op->attributes[at];
      Attribute& one = attributes_[at];
      if (spec.kind == SHIPWAY_ATTR_INT) {
        visitor.on_attribute(spec.name, one.i);
      } else if (spec.kind == SHIPWAY_ATTR_INTS) {
        visitor.on_attribute(spec.name, one.ints);
      } else {
        const bool list = spec.kind == SHIPWAY_ATTR_FLOATS;
        std::string text = text_of(list ? one.floats : std::vector<double>{one.f});
        visitor.on_attribute(spec.name, text);
        std::vector<double> read = numbers_in(text);
        if (list) one.floats = std::move(read);
        else if (!read.empty()) one.f = read[0];
      }
    }
    return true;
  }

  void validate_and_infer_types() override {
    const shipway_op& op = *known_->op;
    shipway_tensor inputs[SHIPWAY_MAX_TENSORS]{};
    std::int64_t sizes[SHIPWAY_MAX_TENSORS][SHIPWAY_MAX_RANK + 1]{};
    bool ranks_known = true, all_known = true;
    ov::element::Type t_type = ov::element::f32;
    std::size_t given = 0;
    for (std::int32_t at = 0; op.input_types[at] != '\0'; ++at) {
      inputs[at].rank = -1;
      if (!is_present(at)) continue;
      NODE_VALIDATION_CHECK(this, given < get_input_size(), "an input is missing");
      const ov::PartialShape& shape = get_input_partial_shape(given);
      if (op.input_types[at] == 'T') t_type = get_input_element_type(given);
      ++given;
      if (shape.rank().is_dynamic() || shape.size() > SHIPWAY_MAX_RANK) {
        ranks_known = all_known = false;
        continue;
      }
      for (std::size_t axis = 0; axis < shape.size(); ++axis) {
        sizes[at][axis] = shape[axis].is_dynamic() ? -1 : shape[axis].get_length();
        all_known = all_known && !shape[axis].is_dynamic();
      }
      inputs[at] = {nullptr, sizes[at], static_cast<std::int32_t>(shape.size()), 0};
    }
    shipway_shape shapes[SHIPWAY_MAX_TENSORS]{};
    std::string message;
    shipway_host host{SHIPWAY_OP_ABI, 1, &message, nullptr, nullptr, note_failure};
    const std::vector<shipway_attribute> views = views_of(op, attributes_);
    const bool inferred = ranks_known && op.infer(inputs, views.data(), shapes, &host) == 0;
    NODE_VALIDATION_CHECK(this, inferred || !all_known, op.name, ": ",
                          message.empty() ? "the shapes of the inputs do not fit together" : message);
    for (std::int32_t at = 0; op.output_types[at] != '\0'; ++at) {
      const char letter = op.output_types[at];
      ov::PartialShape shape = ov::PartialShape::dynamic();
      if (inferred) {
        std::vector<ov::Dimension> dims;
        for (std::int32_t axis = 0; axis < shapes[at].rank; ++axis) {
          const std::int64_t size = shapes[at].dims[axis];
          dims.push_back(size < 0 ? ov::Dimension::dynamic() : ov::Dimension(size));
        }
        shape = ov::PartialShape(dims);
      }
      set_output_type(static_cast<std::size_t>(at),
                      letter == 'T' ? t_type : node_type_of(letter), shape);
    }
  }

  bool has_evaluate() const override { return true; }

  bool evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const override {
    const shipway_op& op = *known_->op;
    Run run;
    run.op = &op;
    run.results = &outputs;
    read_inputs(run, inputs);
    shipway_host host{SHIPWAY_OP_ABI, tbb::this_task_arena::max_concurrency(), &run, parallel_for,
                      allocate, note_failure_of_run};
    const std::vector<shipway_attribute> views = views_of(op, attributes_);
    if (op.infer(run.inputs, views.data(), run.shapes, &host) != 0) {
      refuse(run.message.empty() ? "the shapes of the inputs do not fit together" : run.message);
    }
    for (std::int32_t at = 0; op.output_types[at] != '\0'; ++at) {
      const shipway_shape shape = run.shapes[at];
      const bool known =
          std::all_of(shape.dims, shape.dims + shape.rank, [](auto size) { return size >= 0; });
      if (known) run.make_output(at, shape.dims, shape.rank);
    }
    if (known_->call(&op, run.inputs, views.data(), run.outputs, &host) != 0) {
      refuse(run.message.empty() ? "the kernel failed" : run.message);
    }
    for (std::int32_t at = 0; op.output_types[at] != '\0'; ++at) {
      if (!run.allocated[at]) refuse("the kernel gave output " + std::to_string(at) + " no shape");
      ov::Tensor& result = outputs[static_cast<std::size_t>(at)];
      const std::int32_t made = run.output_code(at), wanted = code_of(result.get_element_type());
      if (made != wanted &&
          !convert(made, wanted, run.wide_outputs[at].data(), result.data(), result.get_size())) {
        refuse("output " + std::to_string(at) + " does not fit into " +
               result.get_element_type().get_type_name() + ", which OpenVINO computes it in");
      }
    }
    return true;
  }

 private:
  bool is_present(std::int32_t at) const { return (present_ >> at & 1) != 0; }

  [[noreturn]] void refuse(const std::string& why) const { OPENVINO_THROW(known_->op->name, ": ", why); }

  void read_inputs(Run& run, const ov::TensorVector& inputs) const {
    std::size_t given = 0;
    for (std::int32_t at = 0; known_->op->input_types[at] != '\0'; ++at) {
      run.inputs[at].rank = -1;
      if (!is_present(at)) continue;
      const ov::Tensor& tensor = inputs.at(given++);
      const ov::Shape& shape = tensor.get_shape();
      if (shape.size() > SHIPWAY_MAX_RANK) refuse("input " + std::to_string(at) + " has too many axes");
      if (!tensor.is_continuous()) refuse("input " + std::to_string(at) + " has gaps in memory");
      run.sizes[at].assign(shape.begin(), shape.end());
      run.sizes[at].push_back(0);  // never empty: a scalar has a shape to point at, too
      const char letter = known_->op->input_types[at];
      const std::int32_t have = code_of(tensor.get_element_type());
      const std::int32_t want = letter == 'T' ? have : code_of_letter(letter);
      if (letter == 'T') run.t_code = have;
      const void* data = tensor.data();
      if (have != want) {
        run.widened[at].resize(std::max<std::size_t>(1, tensor.get_size() * bytes_of(want)));
        if (!convert(have, want, data, run.widened[at].data(), tensor.get_size())) {
          refuse("input " + std::to_string(at) + " cannot be " + tensor.get_element_type().to_string());
        }
        data = run.widened[at].data();
      }
      run.inputs[at] = {const_cast<void*>(data), run.sizes[at].data(),
                        static_cast<std::int32_t>(shape.size()), want};
    }
  }

  const Known* known_;
  std::vector<Attribute> attributes_;
  std::int64_t present_ = ~std::int64_t{0};
};

Attribute attribute_of(const ov::frontend::NodeContext& node, const shipway_op& op,
                       const shipway_attribute_spec& spec, Attribute made) {
  if (!node.has_attribute(spec.name)) {
    if (spec.required != 0) OPENVINO_THROW(op.name, ": the attribute ", spec.name, " is missing");
    return made;
  }
  // Which of the types of a kind the frontend hands over differs between its releases.
  const ov::Any value = node.get_attribute_as_any(spec.name);
  switch (spec.kind) {
    case SHIPWAY_ATTR_INT: made.i = value.as<std::int64_t>(); break;
    case SHIPWAY_ATTR_FLOAT: made.f = value.is<double>() ? value.as<double>() : value.as<float>(); break;
    case SHIPWAY_ATTR_INTS: made.ints = value.as<std::vector<std::int64_t>>(); break;
    default:
      if (value.is<std::vector<double>>()) {
        made.floats = value.as<std::vector<double>>();
      } else {
        const auto narrow = value.as<std::vector<float>>();
        made.floats.assign(narrow.begin(), narrow.end());
      }
  }
  return made;
}

ov::OutputVector convert_node(const Known& known, const ov::frontend::NodeContext& node) {
  const shipway_op& op = *known.op;
  ov::OutputVector inputs;
  std::int64_t present = 0;
  const std::size_t count = std::string(op.input_types).size();
  for (std::size_t at = 0; at < std::min(count, node.get_input_size()); ++at) {
    const ov::Output<ov::Node> value = node.get_input(static_cast<int>(at));
    const ov::Node* source = value.get_node();
    // The frontend marks an input that is absent with a node of its own.
    if (source == nullptr || std::string(source->get_type_name()) == "NullNode") continue;
    inputs.push_back(value);
    present |= std::int64_t{1} << at;
  }
  std::vector<Attribute> attributes = defaults(op);
  for (std::size_t at = 0; at < attributes.size(); ++at) {
    attributes[at] = attribute_of(node, op, op.attributes[at], attributes[at]);
  }
  ov::OutputVector outputs = std::make_shared<Node>(inputs, known, attributes, present)->outputs();
  for (std::size_t at = 0; at < outputs.size(); ++at) {
    const char letter = op.output_types[at];
    const ov::element::Type wanted = type_of(code_of_letter(letter));
    if (letter == 'T' || wanted == node_type_of(letter)) continue;
    outputs[at] = std::make_shared<ov::op::v0::Convert>(outputs[at], wanted);
  }
  return outputs;
}

class Extension : public ov::BaseOpExtension {
 public:
  explicit Extension(const Known& known) : known_(&known) {}

  const ov::DiscreteTypeInfo& get_type_info() const override { return *known_->type; }

  ov::OutputVector create(const ov::OutputVector& inputs, ov::AttributeVisitor& visitor) const override {
    auto made = std::make_shared<Node>(*known_);
    made->set_arguments(inputs);
    made->visit_attributes(visitor);
    made->constructor_validate_and_infer_types();
    return made->outputs();
  }

  std::vector<ov::Extension::Ptr> get_attached_extensions() const override {
    const shipway_op& op = *known_->op;
    std::vector<ov::Extension::Ptr> made{conversion(op.domain, op.name)};
    for (const char* const* alias = op.aliases; alias != nullptr && *alias != nullptr; ++alias) {
      const std::string full(*alias);
      const std::size_t colons = full.find("::");
      made.push_back(conversion(full.substr(0, colons), full.substr(colons + 2)));
    }
    return made;
  }

 private:
  ov::Extension::Ptr conversion(const std::string& domain, const std::string& name) const {
    const Known* known = known_;
    return std::make_shared<ov::frontend::onnx::ConversionExtension>(
        name, domain, [known](const ov::frontend::NodeContext& node) { return convert_node(*known, node); });
  }

  const Known* known_;
};

std::vector<ov::Extension::Ptr> all_extensions() {
  Registry& all = registry();
  const std::lock_guard<std::mutex> lock(all.mutex);
  std::vector<ov::Extension::Ptr> made;
  for (const auto& entry : all.operators) made.push_back(std::make_shared<Extension>(entry.second));
  return made;
}

}  // namespace

OPENVINO_CREATE_EXTENSIONS(all_extensions());

// Adds the operators of a kernel library, whose shipway_call runs them. The library must stay loaded.
extern "C" SHIPWAY_EXPORT void shipway_openvino_add(const shipway_table* table, CallKernel call) {
  Registry& all = registry();
  const std::lock_guard<std::mutex> lock(all.mutex);
  for (std::int32_t at = 0; at < table->count; ++at) {
    const shipway_op* op = table->ops[at];
    if (all.operators.count(op) != 0) continue;
    Known& known = all.operators[op];
    known.op = op;
    known.call = call;
    known.name = std::string(op->domain) + "." + op->name;
    // As Python's nodes are called in a file, so that either adapter reads what the other has written.
    known.type = std::make_unique<ov::DiscreteTypeInfo>(known.name.c_str(), "extension");
    known.type->hash();
  }
}
