"""The frozen network: a backbone cut at nodes, with weights and the recipe that goes with them."""
