"""Examples."""

from contract.cells import GRAPH
from contract.example import Example

COUNTS = {"spliced": "layers/counts", "unspliced": "layers/above_zero"}
MEANS = {"ms": "layers/log", "mu": "layers/untied"}
CORRELATIONS = {"positive": GRAPH, "negative": GRAPH}
MOVING = {"self_transitions": False}
"""Several edges of a cell have its largest weight, of which that of a stay has no derivative."""

EXAMPLES = [
    Example(operator="moments", title="scaled", reads={**COUNTS, "graph": GRAPH}),
    Example(operator="moments", title="as_they_are", reads={**COUNTS, "graph": GRAPH}, config={"normalize": False}),
    Example(operator="steady_state_velocity", reads=MEANS, config={"min_r2": -10.0}),
    Example(
        operator="steady_state_velocity",
        title="offset_in_groups",
        reads={**MEANS, "groups": "obs/group"},
        config={"fit_offset": True, "groups_for_fit": ("1", "2"), "min_r2": -10.0, "constrain_ratio": (0.0, 5.0)},
    ),
    Example(
        operator="stochastic_velocity",
        title="in_groups",
        reads={**MEANS, **COUNTS, "graph": GRAPH, "groups": "obs/group"},
        config={"groups_for_fit": ("1", "2"), "min_r2": -10.0},
    ),
    Example(
        operator="velocity_graph", title="two_steps", reads={"x": "layers/log", "v": "layers/untied", "graph": GRAPH}
    ),
    Example(
        operator="velocity_graph",
        title="roots_of_some",
        reads={"x": "layers/log", "v": "layers/untied", "graph": GRAPH},
        config={"sqrt_transform": True, "at_most": 9},
        differentiable=False,
    ),
    Example(operator="velocity_transitions", reads=CORRELATIONS, config=MOVING),
    Example(
        operator="velocity_transitions",
        title="signed",
        reads=CORRELATIONS,
        config={**MOVING, "use_negative_cosines": True, "scale": 5.0},
    ),
    Example(operator="velocity_embedding", reads={**CORRELATIONS, "x": "obsm/start"}, config=MOVING),
    Example(operator="velocity_confidence", reads={"v": "layers/untied", "graph": GRAPH}),
    Example(
        operator="local_velocity",
        reads={**MEANS, "x": "obsm/start", "distances": GRAPH, "time": "obs/age"},
        config={"n_nearest": 20, "min_r2": -10.0, "strength": 0.0},
        idle={"distances": "with a time it only places new cells"},
    ),
    Example(
        operator="local_velocity",
        title="own_time",
        reads={**MEANS, "x": "obsm/start", "distances": GRAPH},
        config={"n_nearest": 20, "n_pcs": 1, "min_r2": -10.0, "strength": 0.5},
        infinite=frozenset({"time_used"}),
    ),
    Example(operator="terminal_states", reads={**CORRELATIONS, "distances": GRAPH, "groups": "obs/batch"}),
    Example(
        operator="velocity_pseudotime",
        reads={**CORRELATIONS, "graph": GRAPH, "root": "obs/age", "end": "obs/depth", "groups": "obs/batch"},
        config={"n_dcs": 4},
        infinite=frozenset({"pseudotime"}),
    ),
    Example(
        operator="velocity_pseudotime",
        title="from_a_cell",
        reads={**CORRELATIONS, "graph": GRAPH},
        config={"n_dcs": 4, "root_cell": 5},
        infinite=frozenset({"pseudotime"}),
        idle={"graph": "it only places new cells"},
    ),
    Example(
        operator="recover_dynamics",
        title="curves",
        random=True,
        reads={**MEANS, "graph": GRAPH},
        config={"genes": tuple(range(60)), "max_iter": 4},
    ),
    Example(
        operator="recover_dynamics",
        title="basal",
        random=True,
        reads={**MEANS, "graph": GRAPH, "steady": "obs/chosen"},
        config={"genes": tuple(range(60)), "max_iter": 2, "fit_scaling": 0.8, "fit_basal_transcription": True},
    ),
    Example(
        operator="count_dynamics",
        title="counts",
        random=True,
        reads={**MEANS, **COUNTS, "graph": GRAPH, "steady": "obs/chosen"},
        config={"genes": tuple(range(60)), "max_iter": 2},
    ),
    Example(
        operator="dynamical_velocity",
        title="two_genes",
        reads={"speed": "layers/untied", "graph": GRAPH},
        config={"genes": (1, 5)},
    ),
    Example(
        operator="latent_time",
        reads={"time": "layers/untied", **CORRELATIONS, "graph": GRAPH},
        config={"root_cell": 3, "t_max": 2.0, "min_corr_diffusion": -1.0, "weight_diffusion": 0.3},
    ),
    Example(
        operator="latent_time",
        title="from_marks",
        reads={
            "time": "layers/untied",
            **CORRELATIONS,
            "graph": GRAPH,
            "root": "obs/first",
            "end": "obs/last",
            "groups": "obs/batch",
        },
    ),
]
