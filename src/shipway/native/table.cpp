// The operators of Shipway's own library.

#include "shipway_op.h"

namespace shipway {
extern const shipway_op ball_query_op;
extern const shipway_op bicubic_resize_op;
extern const shipway_op deform_conv2d_op;
extern const shipway_op grid_sample_3d_op;
extern const shipway_op multi_scale_deformable_attn_op;
}  // namespace shipway

extern "C" {
SHIPWAY_OPS(&shipway::ball_query_op, &shipway::bicubic_resize_op, &shipway::deform_conv2d_op,
            &shipway::grid_sample_3d_op, &shipway::multi_scale_deformable_attn_op)
}
