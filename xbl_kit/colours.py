"""The colour of each model, the same in all figures."""

# A model has one colour in all figures, neither too light for a white page nor too dark for a black
# one. Plain training has the same by either name. The four of eXBL and the six of MIMM-X, which are
# often drawn together, differ for the colour-blind, too.
COLOURS = {
    "unrefined": "#777777", "control": "#c6820f", "exbl": "#3f92f8", "oracle": "#aa00bb",
    "erm": "#777777", "reweighted": "#bf8a24", "multitask": "#8a2b0a", "mimm-x": "#0b5278",
    "balanced-dcor": "#2f8ff0", "rrr": "#6b8e23", "rrr-g": "#2e8b57", "hint": "#008b8b",
    "cdep": "#556b2f", "rbr": "#5f8a8b", "caipi": "#3d7a3d", "added-images": "#c46f8a",
    "dfr": "#c2185b", "second-opinion": "#e0457b", "jtt": "#a0705a", "group-dro": "#d2562a",
    "adversary": "#8d6e63", "dcor": "#8c6cd0", "hsic": "#7b68c8", "club": "#5e4fa2",
}  # fmt: skip
TITLES = {"reweighted-erm": "reweighted", "groupdro": "group-dro", "distance-correlation": "dcor"}


def colour(model: str) -> str:
    """The colour of a model, by its recipe's name or by its title."""
    name = model.lower().replace(" ", "-")
    return COLOURS.get(TITLES.get(name, name), f"C{sum(name.encode()) % 10}")
