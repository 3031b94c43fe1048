"""What a run is trained with where nothing else is said: networks, sizes in pixels, schedules."""

# In eXBL's phantoms, as in the COVID-19 Radiography Database, every Viral Pneumonia is a child.
CHILDREN = {
    "preferred": {"age": [0, 0, 0, 1]},
    "per_class": {"train": 400, "val": 100, "test": 100},
}
PAPER = {"lr": 1e-4, "patience": 5}

PRESETS = {
    # eXBL's: how models are trained, and how refined; the oracle is trained as long as both.
    "classroom": {
        "size": 128,
        "backbone": "small_cnn",
        "hidden": 0,
        "weights": "none",
        "train": {"epochs": 18, "lr": 3e-3, "warmup": 0.3},
        "refine": {"epochs": 14, "lr": 3e-3},
        "oracle": {"epochs": 18 + 14, "lr": 3e-3, "warmup": 0.3},
        "options": {"exbl": {"weight": 1.0, "margin": 3.0, "score": "centred"}},
        **CHILDREN,
    },
    "paper": {
        "size": 224,
        "backbone": "mobilenet_v2",
        "hidden": 256,
        "weights": "imagenet",
        "train": {"epochs": 60, **PAPER},
        "refine": {"epochs": 100, **PAPER},
        "oracle": {"epochs": 60 + 100, **PAPER},
        "options": {"exbl": {"weight": 1.0, "score": "log-odds"}},
        **CHILDREN,
    },
    # MIMM-X's, by kind of data. Data that are drawn to measure have `preferred`, the level of each
    # factor that each class prefers, and `per_class`. Of the phantoms' first three factors each
    # alone splits the classes two to two, any two name the class, and no factor tells of another;
    # tubes go with COVID: with intensive care, not with the disease.
    "phantom": {
        "drawing": {"severity": 1.2, "proportions": 2.0},
        "size": 64,
        "backbone": "small_cnn",
        "features": 4,
        "weights": "none",
        "train": {"epochs": 12, "batch_size": 64, "lr": 3e-3, "warmup": 0.5, "keep": "last"},
        "preferred": {
            "age": [0, 0, 1, 1],
            "sex": [0, 1, 0, 1],
            "site": [0, 1, 1, 0],
            "line": [1, 0, 0, 0],
        },
        "per_class": {"train": 3000, "val": 40, "test": 400},
    },
    "morphomnist": {
        "size": 28,
        "backbone": "digit_cnn",
        "features": 4,
        "weights": "none",
        "train": {"epochs": 8, "batch_size": 128, "lr": 3e-3, "warmup": 0.3, "keep": "last"},
        "preferred": {"stroke": [0, 1], "rotation": [0, 1]},
        "per_class": {"train": 12000, "val": 200, "test": 1500},
    },
    "on disk": {
        "size": 128,
        "backbone": "mobilenet_v2",
        "features": 4,
        "weights": "imagenet",
        "train": {"epochs": 30, "batch_size": 32, "lr": 3e-4, "warmup": 0.1, "keep": "last"},
    },
}
# The confounders where none are named.
USUAL = {
    ("exbl", "phantom"): ("age",),
    ("mimm-x", "phantom"): ("age", "sex", "site"),
    ("mimm-x", "morphomnist"): ("stroke", "rotation"),
    ("mimm-x", "chexpert"): ("sex", "age_group"),
    ("mimm-x", "mri"): ("sex", "site"),
}
