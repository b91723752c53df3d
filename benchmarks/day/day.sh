#!/bin/sh
# A researcher's day with three methods and a space of a package of their own: searches, a resume, a
# comparison and a retraining. It takes a few minutes.
# Run it in a copy of this folder. The package lies beside it and is not installed.
set -e
archgrad methods --plugin mypackage.nas | grep cooled
archgrad spaces --plugin mypackage.nas | grep chain
archgrad search --config ours.yaml --method cooled --dry-run | grep "end: 0.3"             # the preset of its space
archgrad search --config ours.yaml --method cooled --cooled.end 0.2 --out runs/cooled
archgrad search --config ours.yaml --method mixed+soft --darts.hypergradient second_order --mixed.strength 1 --out runs/mixed
archgrad resume runs/mixed
archgrad show runs/cooled
archgrad count runs/mixed --json
archgrad retrain runs/cooled
archgrad evaluate runs/cooled | head -n 1
archgrad compare --config ours.yaml --methods cooled,cooled+mixed+soft,darts --seeds 2 --retrain-seeds 1 --random.draws 2 --out study
archgrad compare --out study --seeds 2                                                     # the study knows its plugin
python own.py
(cd .. && archgrad show day/runs/cooled) 2>&1 | grep "plugin mypackage.nas is missing"      # the package is not found from here
