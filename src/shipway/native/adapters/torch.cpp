// Hands the operators of this library to PyTorch through its C shim, found at run time: no headers of
// torch, no link to it, so one binary serves every torch from 2.10 on.
//
// Source: torch/csrc/stable (StableIValue) and torch/csrc/inductor/aoti_torch/c/shim.h of torch 2.13.

#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "calls.hpp"
#include "shipway_op.h"

namespace {

using Value = std::uint64_t;  // StableIValue: a handle, or the bits of a number
using Tensor = void*;
using List = void*;
using Error = std::int32_t;
using Boxed = void (*)(Value*, std::uint64_t, std::uint64_t);

constexpr int kMostOperators = 128;

// Functions of the shim, by the names they have there.
struct Shim {
  Error (*aoti_torch_library_init_impl)(const char*, const char*, const char*, std::uint32_t, void**);
  Error (*torch_library_impl)(void*, const char*, Boxed, std::uint64_t);
  std::uint64_t (*aoti_torch_abi_version)();
  Error (*aoti_torch_get_data_ptr)(Tensor, void**);
  Error (*aoti_torch_get_sizes)(Tensor, std::int64_t**);
  Error (*aoti_torch_get_strides)(Tensor, std::int64_t**);
  Error (*aoti_torch_get_dim)(Tensor, std::int64_t*);
  Error (*aoti_torch_get_dtype)(Tensor, std::int32_t*);
  Error (*aoti_torch_delete_tensor_object)(Tensor);
  Error (*aoti_torch_empty_strided)(std::int64_t, const std::int64_t*, const std::int64_t*,
                                    std::int32_t, std::int32_t, std::int32_t, Tensor*);
  Error (*torch_parallel_for)(std::int64_t, std::int64_t, std::int64_t,
                              void (*)(std::int64_t, std::int64_t, void*), void*);
  Error (*torch_get_num_threads)(std::uint32_t*);
  Error (*torch_list_size)(List, std::size_t*);
  Error (*torch_list_get_item)(List, std::size_t, Value*);
  Error (*torch_delete_list)(List);
  std::int32_t dtypes[32];  // torch's code of each of ours; -1 where there is none
};

Shim shim;

template <class Function>
void find(void* library, const char* name, Function& out) {
  void* found = dlsym(library, name);
  if (found == nullptr) throw std::runtime_error(std::string("libtorch_cpu.so has no ") + name);
  std::memcpy(&out, &found, sizeof found);
}

void load_shim() {
  void* library = dlopen("libtorch_cpu.so", RTLD_NOW | RTLD_NOLOAD);
  if (library == nullptr) throw std::runtime_error("torch is not loaded in this process");
#define SHIPWAY_FIND(name) find(library, #name, shim.name)
  SHIPWAY_FIND(aoti_torch_library_init_impl);
  SHIPWAY_FIND(torch_library_impl);
  SHIPWAY_FIND(aoti_torch_abi_version);
  SHIPWAY_FIND(aoti_torch_get_data_ptr);
  SHIPWAY_FIND(aoti_torch_get_sizes);
  SHIPWAY_FIND(aoti_torch_get_strides);
  SHIPWAY_FIND(aoti_torch_get_dim);
  SHIPWAY_FIND(aoti_torch_get_dtype);
  SHIPWAY_FIND(aoti_torch_delete_tensor_object);
  SHIPWAY_FIND(aoti_torch_empty_strided);
  SHIPWAY_FIND(torch_parallel_for);
  SHIPWAY_FIND(torch_get_num_threads);
  SHIPWAY_FIND(torch_list_size);
  SHIPWAY_FIND(torch_list_get_item);
  SHIPWAY_FIND(torch_delete_list);
#undef SHIPWAY_FIND
  std::fill(std::begin(shim.dtypes), std::end(shim.dtypes), -1);
  const std::pair<int, const char*> names[] = {
      {SHIPWAY_FLOAT32, "aoti_torch_dtype_float32"}, {SHIPWAY_FLOAT16, "aoti_torch_dtype_float16"},
      {SHIPWAY_BFLOAT16, "aoti_torch_dtype_bfloat16"}, {SHIPWAY_FLOAT64, "aoti_torch_dtype_float64"},
      {SHIPWAY_INT64, "aoti_torch_dtype_int64"}, {SHIPWAY_INT32, "aoti_torch_dtype_int32"},
      {SHIPWAY_UINT8, "aoti_torch_dtype_uint8"}, {SHIPWAY_BOOL, "aoti_torch_dtype_bool"}};
  for (const auto& [type, name] : names) {
    std::int32_t (*code)() = nullptr;
    find(library, name, code);
    shim.dtypes[type] = code();
  }
}

void check(Error error, const char* what) {
  if (error != 0) throw std::runtime_error(std::string("torch's shim failed: ") + what);
}

int our_dtype(std::int32_t code) {
  const auto* found = std::find(std::begin(shim.dtypes), std::end(shim.dtypes), code);
  return found == std::end(shim.dtypes) ? 0 : static_cast<int>(found - shim.dtypes);
}

std::size_t element_bytes(int dtype) {
  switch (dtype) {
    case SHIPWAY_FLOAT64: case SHIPWAY_INT64: return 8;
    case SHIPWAY_FLOAT32: case SHIPWAY_INT32: return 4;
    case SHIPWAY_FLOAT16: case SHIPWAY_BFLOAT16: return 2;
    default: return 1;
  }
}

int dtype_of_letter(char letter) {
  switch (letter) {
    case 'f': return SHIPWAY_FLOAT32;
    case 'd': return SHIPWAY_FLOAT64;
    case 'h': return SHIPWAY_FLOAT16;
    case 'l': case 'I': return SHIPWAY_INT64;
    case 'i': return SHIPWAY_INT32;
    case 'u': return SHIPWAY_UINT8;
    default: return SHIPWAY_BOOL;
  }
}

// Owns what the stack of a boxed call hands over.
class Handles {
 public:
  ~Handles() {
    for (Tensor tensor : tensors) shim.aoti_torch_delete_tensor_object(tensor);
    for (List list : lists) shim.torch_delete_list(list);
    for (Value* box : boxes) delete box;
  }
  std::vector<Tensor> tensors;
  std::vector<List> lists;
  std::vector<Value*> boxes;
};

struct Call {
  const shipway_op* op;
  int float_type = 0;
  shipway_tensor inputs[SHIPWAY_MAX_TENSORS]{};
  shipway_tensor outputs[SHIPWAY_MAX_TENSORS]{};
  shipway_shape shapes[SHIPWAY_MAX_TENSORS]{};
  Tensor made[SHIPWAY_MAX_TENSORS]{};
  std::vector<char> copies[SHIPWAY_MAX_TENSORS];
  std::vector<std::int64_t> wide[SHIPWAY_MAX_TENSORS];
  std::vector<std::int64_t> ints[SHIPWAY_MAX_ATTRIBUTES];
  std::vector<double> floats[SHIPWAY_MAX_ATTRIBUTES];
  shipway_attribute attributes[SHIPWAY_MAX_ATTRIBUTES]{};
  std::string message;

  ~Call() {
    for (Tensor tensor : made) {
      if (tensor != nullptr) shim.aoti_torch_delete_tensor_object(tensor);
    }
  }
};

bool is_dense(const std::int64_t* sizes, const std::int64_t* strides, std::int64_t rank) {
  std::int64_t expected = 1;
  for (std::int64_t axis = rank - 1; axis >= 0; --axis) {
    if (sizes[axis] != 1 && strides[axis] != expected) return false;
    expected *= sizes[axis];
  }
  return true;
}

// Copies a strided tensor to C order, one innermost row at a time.
char* copy_rows(char* to, const char* from, const std::int64_t* sizes, const std::int64_t* strides,
                std::int64_t rank, std::size_t bytes) {
  if (rank == 0) {
    std::memcpy(to, from, bytes);
    return to + bytes;
  }
  if (rank == 1 && strides[0] == 1) {
    const std::size_t row = static_cast<std::size_t>(sizes[0]) * bytes;
    std::memcpy(to, from, row);
    return to + row;
  }
  const std::int64_t step = strides[0] * static_cast<std::int64_t>(bytes);
  for (std::int64_t at = 0; at < sizes[0]; ++at, from += step) {
    to = copy_rows(to, from, sizes + 1, strides + 1, rank - 1, bytes);
  }
  return to;
}

void read_tensor(Call& call, int at, Tensor handle) {
  void* data = nullptr;
  std::int64_t *sizes = nullptr, *strides = nullptr, rank = 0;
  std::int32_t code = 0;
  check(shim.aoti_torch_get_data_ptr(handle, &data), "data");
  check(shim.aoti_torch_get_sizes(handle, &sizes), "sizes");
  check(shim.aoti_torch_get_strides(handle, &strides), "strides");
  check(shim.aoti_torch_get_dim(handle, &rank), "rank");
  check(shim.aoti_torch_get_dtype(handle, &code), "dtype");
  const char letter = call.op->input_types[at];
  int dtype = our_dtype(code);
  if (rank > SHIPWAY_MAX_RANK) throw std::runtime_error("a tensor has more than 8 dimensions");
  std::int64_t count = 1;
  for (std::int64_t axis = 0; axis < rank; ++axis) count *= sizes[axis];
  if (count > 0 && !is_dense(sizes, strides, rank)) {
    const std::size_t bytes = element_bytes(dtype);
    call.copies[at].resize(static_cast<std::size_t>(count) * bytes);
    copy_rows(call.copies[at].data(), static_cast<const char*>(data), sizes, strides, rank, bytes);
    data = call.copies[at].data();
  }
  if (letter == 'I' && dtype == SHIPWAY_INT32) {
    const auto* narrow = static_cast<const std::int32_t*>(data);
    call.wide[at].assign(narrow, narrow + count);
    data = call.wide[at].data();
    dtype = SHIPWAY_INT64;
  }
  if (letter == 'T') {
    const std::int32_t* known = call.op->float_types;
    while (*known != 0 && *known != dtype) ++known;
    if (*known == 0) throw std::runtime_error("input " + std::to_string(at) + " has a dtype the kernel does not take");
    if (call.float_type == 0) call.float_type = dtype;
    if (call.float_type != dtype) throw std::runtime_error("the floating inputs have different dtypes");
  } else if (dtype != dtype_of_letter(letter)) {
    throw std::runtime_error("input " + std::to_string(at) + " has the wrong dtype");
  }
  call.inputs[at] = {data, sizes, static_cast<std::int32_t>(rank), dtype};
}

void read_attribute(Call& call, int at, Value value, Handles& handles) {
  const shipway_attribute_spec& spec = call.op->attributes[at];
  shipway_attribute& out = call.attributes[at];
  out.name = spec.name;
  out.kind = spec.kind;
  if (spec.kind == SHIPWAY_ATTR_INT) {
    std::memcpy(&out.i, &value, 8);
  } else if (spec.kind == SHIPWAY_ATTR_FLOAT) {
    std::memcpy(&out.f, &value, 8);
  } else {
    const List list = reinterpret_cast<List>(value);
    handles.lists.push_back(list);
    std::size_t size = 0;
    check(shim.torch_list_size(list, &size), "list");
    for (std::size_t k = 0; k < size; ++k) {
      Value item = 0;
      check(shim.torch_list_get_item(list, k, &item), "list item");
      std::int64_t number = 0;
      double real = 0;
      std::memcpy(&number, &item, 8);
      std::memcpy(&real, &item, 8);
      if (spec.kind == SHIPWAY_ATTR_INTS) call.ints[at].push_back(number);
      else call.floats[at].push_back(real);
    }
    out.ints = call.ints[at].data();
    out.floats = call.floats[at].data();
    out.count = static_cast<std::int64_t>(size);
  }
}

void make_output(Call& call, int at, const std::int64_t* shape, std::int32_t rank) {
  const char letter = call.op->output_types[at];
  const int dtype = letter == 'T' ? call.float_type : dtype_of_letter(letter);
  shipway_shape& kept = call.shapes[at];
  std::copy(shape, shape + rank, kept.dims);
  kept.rank = rank;
  std::int64_t strides[SHIPWAY_MAX_RANK], step = 1;
  for (std::int32_t axis = rank - 1; axis >= 0; --axis) {
    strides[axis] = step;
    step *= std::max<std::int64_t>(kept.dims[axis], 1);
  }
  if (call.made[at] != nullptr) throw std::runtime_error("the kernel gave an output two shapes");
  constexpr std::int32_t cpu = 0, any_index = -1;
  check(shim.aoti_torch_empty_strided(rank, kept.dims, strides, shim.dtypes[dtype], cpu, any_index,
                                      &call.made[at]), "an output");
  void* data = nullptr;
  check(shim.aoti_torch_get_data_ptr(call.made[at], &data), "data");
  call.outputs[at] = {data, kept.dims, rank, dtype};
}

void parallel_for(shipway_host*, std::int64_t count, std::int64_t grain, shipway_body body,
                  void* context) {
  if (shim.torch_parallel_for(0, count, grain, body, context) != 0) body(0, count, context);
}

void* allocate(shipway_host* host, std::int32_t at, const std::int64_t* shape, std::int32_t rank) {
  Call& call = *static_cast<Call*>(host->opaque);
  try {
    make_output(call, at, shape, rank);
    return call.outputs[at].data;
  } catch (const std::exception& error) {
    call.message = error.what();
    return nullptr;
  }
}

void note_failure(shipway_host* host, const char* message) {
  Call& call = *static_cast<Call*>(host->opaque);
  if (call.message.empty()) call.message = message;
}

void take_inputs(Call& call, Value* stack, Handles& handles) {
  const shipway_op& op = *call.op;
  const int inputs = static_cast<int>(std::strlen(op.input_types));
  // Ownership first: whatever goes wrong later, everything on the stack is given back.
  std::vector<Tensor> given(static_cast<std::size_t>(inputs), nullptr);
  for (int at = 0; at < inputs; ++at) {
    Value value = stack[at];
    if ((op.optional_inputs >> at & 1u) != 0) {
      if (value == 0) continue;
      handles.boxes.push_back(reinterpret_cast<Value*>(value));
      value = *handles.boxes.back();
    }
    given[static_cast<std::size_t>(at)] = reinterpret_cast<Tensor>(value);
    handles.tensors.push_back(given[static_cast<std::size_t>(at)]);
  }
  for (int at = 0; at < op.attribute_count; ++at) {
    read_attribute(call, at, stack[inputs + at], handles);
  }
  for (int at = 0; at < inputs; ++at) {
    call.inputs[at].rank = -1;
    if (given[static_cast<std::size_t>(at)] != nullptr) read_tensor(call, at, given[static_cast<std::size_t>(at)]);
  }
}

void run(Call& call) {
  const shipway_op& op = *call.op;
  std::uint32_t threads = 1;
  check(shim.torch_get_num_threads(&threads), "threads");
  shipway_host host{SHIPWAY_OP_ABI, static_cast<std::int32_t>(threads), &call, parallel_for, allocate,
                    note_failure};
  if (op.infer(call.inputs, call.attributes, call.shapes, &host) != 0) {
    throw std::runtime_error(call.message.empty() ? "the inputs do not fit together" : call.message);
  }
  const int outputs = static_cast<int>(std::strlen(op.output_types));
  for (int at = 0; at < outputs; ++at) {
    const shipway_shape shape = call.shapes[at];
    const bool known = std::all_of(shape.dims, shape.dims + shape.rank, [](auto d) { return d >= 0; });
    if (known) make_output(call, at, shape.dims, shape.rank);
  }
  const shipway::CallGuard guard(&op);
  if (op.compute(call.inputs, call.attributes, call.outputs, &host) != 0) {
    throw std::runtime_error(call.message.empty() ? "the kernel failed" : call.message);
  }
  for (int at = 0; at < outputs; ++at) {
    if (call.made[at] == nullptr) throw std::runtime_error("the kernel gave an output no shape");
  }
}

void call_kernel(const shipway_op& op, Value* stack, std::uint64_t outputs) {
  Call call;
  call.op = &op;
  Handles handles;
  try {
    take_inputs(call, stack, handles);
    run(call);
  } catch (const std::exception& error) {
    throw std::runtime_error(std::string(op.domain) + "::" + op.torch_name + ": " + error.what());
  }
  for (std::uint64_t at = 0; at < outputs; ++at) {
    stack[at] = reinterpret_cast<Value>(std::exchange(call.made[at], nullptr));
  }
}

// Torch calls a function without a place for data, so each operator has one of its own.
template <int At>
void boxed(Value* stack, std::uint64_t, std::uint64_t outputs) {
  call_kernel(*shipway_ops()->ops[At], stack, outputs);
}

template <int... At>
const Boxed* boxed_table(std::integer_sequence<int, At...>) {
  static const Boxed table[] = {&boxed<At>...};
  return table;
}

void register_one(const char* name) {
  const shipway_table* table = shipway_ops();
  for (int at = 0; at < table->count && at < kMostOperators; ++at) {
    const shipway_op& op = *table->ops[at];
    if (std::strcmp(op.torch_name, name) != 0) continue;
    void* library = nullptr;  // lives as long as the process
    check(shim.aoti_torch_library_init_impl(op.domain, "CPU", __FILE__, __LINE__, &library), "library");
    const Boxed* functions = boxed_table(std::make_integer_sequence<int, kMostOperators>());
    check(shim.torch_library_impl(library, name, functions[at], shim.aoti_torch_abi_version()), name);
    return;
  }
  throw std::runtime_error(std::string("this library has no kernel ") + name);
}

}  // namespace

// Registers kernels of this library as the CPU implementation of torch operators whose schema is
// defined already. Returns 0, or writes a reason.
extern "C" SHIPWAY_EXPORT int shipway_register_torch(const char* const* names, std::int32_t count,
                                                     char* error, std::int32_t size) {
  static std::mutex mutex;
  static std::set<std::string> done;
  static bool loaded = false;
  const std::lock_guard<std::mutex> lock(mutex);
  try {
    if (!loaded) load_shim();
    loaded = true;
    for (std::int32_t at = 0; at < count; ++at) {
      if (done.count(names[at]) != 0) continue;
      register_one(names[at]);
      done.insert(names[at]);
    }
    return 0;
  } catch (const std::exception& problem) {
    std::snprintf(error, static_cast<std::size_t>(size), "%s", problem.what());
    return 1;
  }
}
