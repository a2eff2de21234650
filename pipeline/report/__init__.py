"""The page of a finished run, ``report.html``: what is on it, and how it is drawn.

- ``finished``   a finished run's artifacts, read image by image
- ``scores``     every mask's pixel counts at the chosen settings and cross-fitted, and what its errors are
- ``selection``  which masks are shown, so that the page stays small for any data set
- ``pictures``   photographs with masks on them, probability maps, and their encoding
- ``charts``     curves and scatter plots, as coordinates that the template draws as SVG
- ``facts``      folds and leaks, times, versions and settings
- ``against``    the difference to another run
- ``page``       all of it through the template ``page.html``, with ``page.css`` and ``page.js``
- ``poster``     ``predictions.png``, a grid of pictures
- ``preview``    the same of one fold, for `predict --preview`
"""
