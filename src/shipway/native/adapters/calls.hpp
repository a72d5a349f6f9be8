// Which kernel calls are in flight: so that Python can tell a native run from another, and see an
// endless loop. Every adapter holds a CallGuard around `compute`.
#pragma once

#include "shipway_op.h"

namespace shipway {

class CallGuard {
 public:
  explicit CallGuard(const shipway_op* op);
  ~CallGuard();
  CallGuard(const CallGuard&) = delete;
  CallGuard& operator=(const CallGuard&) = delete;

 private:
  int slot_;
};

}  // namespace shipway

// Runs a kernel for adapters outside this library (OpenVINO's), in flight like any other call.
extern "C" SHIPWAY_EXPORT int shipway_call(const shipway_op* op, const shipway_tensor* inputs,
                                           const shipway_attribute* attributes,
                                           shipway_tensor* outputs, shipway_host* host);
