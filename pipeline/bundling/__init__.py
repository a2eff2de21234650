"""A finished experiment as a folder that predicts a hidden test set on Kaggle, with the internet off.

- ``contents``  the folder: code, weights, settings, a list of packages, instructions
- ``notebook``  the notebook in it
- ``plans``     how long folds and views take, what leaving some out costs, and what fits a time limit
- ``checking``  the notebook run on some test images, with nothing around it, against the experiment's submission
- ``execute``   a notebook as a process of its own
"""
