"""Rules of ``lint``: what a competition would reject in a submission, what is probably a mistake, and the repair.

``submission`` reads a CSV as it is, ``sample`` holds it against the sample submission, ``diagnosis`` collects all
findings, ``distributions`` compares masks with one another and with the training masks, ``repair`` writes the
corrected file and proves that it lost nothing.
"""
