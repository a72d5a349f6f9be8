// The operators of Shipway's own library.

#include "shipway_op.h"

namespace shipway {
extern const shipway_op ball_query_op;
namespace msda {
extern const shipway_op descriptor;
}
}  // namespace shipway

extern "C" {
SHIPWAY_OPS(&shipway::ball_query_op, &shipway::msda::descriptor)
}
