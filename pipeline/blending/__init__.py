"""Several predictions of one image become one, with weights that are chosen out of fold.

- ``spaces``      the weighted mean of probability maps: of probabilities, logits or ranks
- ``weights``     the search for weights, on what is distinct in a sample of images
- ``recipes``     which space and weights to keep: chosen on the other folds, and only beyond noise
- ``majorities``  the same for finished masks: the weights of a vote

Everything works on rows of maps or masks and reads no file.
"""
