"""Computing in half precision with weights in single: `set_global_policy("mixed_bfloat16")`."""

from gradtape.keras.dtype_policies import DTypePolicy
from gradtape.keras.dtype_policies import dtype_policy as global_policy
from gradtape.keras.dtype_policies import set_dtype_policy as set_global_policy
from gradtape.keras.optimizers import LossScaleOptimizer

# Keras' other names for the same.
Policy = DTypePolicy
dtype_policy, set_dtype_policy = global_policy, set_global_policy

__all__ = [
    "DTypePolicy",
    "LossScaleOptimizer",
    "Policy",
    "dtype_policy",
    "global_policy",
    "set_dtype_policy",
    "set_global_policy",
]
