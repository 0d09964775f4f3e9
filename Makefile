# Every target sets up what it needs; nothing has to be run before it.
PYTHON ?= python3
BIN := .venv/bin
SET_UP := .venv/.set-up
# what make demo generates and how long it trains, such as: make demo DEMO="--subjects 5 --hours 1"
DEMO ?= --subjects 10
TRAIN ?= --n_epochs 5

.PHONY: setup demo ssl weights test test-slow lint format bench clean

setup: $(SET_UP)

$(SET_UP): requirements.txt requirements-dev.txt
	@$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13) and 'Python 3.11 or 3.12 is needed: make PYTHON=python3.11 $(MAKECMDGOALS)')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

demo: setup
	$(BIN)/python generate_demo_data.py $(DEMO)
	$(BIN)/python preprocess_sleepedf.py
	$(BIN)/python cmt_training.py --model_type Seq $(TRAIN)
	$(BIN)/python cmt_evaluate.py --model_type Seq --is_interpret True
	@echo "open the page above in a browser; the run is in results/cmt_seq_fold4; next: README.md"

# pretrain all nine configurations on the demo store, longer with: make ssl SSL="--n_epochs 10"
SSL ?= --n_epochs 1 --logger csv
ssl: setup
	@test -d data/demo/store || $(MAKE) demo
	set -e; for config in configs/*.json; do $(BIN)/python ssl_training.py --config $$config $(SSL); done
	$(BIN)/python ssl_evaluate.py --runs all --tuned False
	$(BIN)/python latent_space_evaluator.py

# make the bundled model of predict.py again (a quarter of an hour; REAL=folder adds the agreement
# with the one real night, and logs that this night was evaluated)
WEIGHTS := data/weights
weights: setup
	$(BIN)/python generate_demo_data.py --varied --subjects 100 --nights 1 --hours 7 --seed 902 --output $(WEIGHTS)/raw
	$(BIN)/python preprocess_sleepedf.py --raw_path $(WEIGHTS)/raw --save_path $(WEIGHTS)/store \
	  --keep_all --channels EEG --resample 100 --preset equalised --folds kfold:10:0
	OMP_NUM_THREADS=1 $(BIN)/python staging_training.py -e seqsleepnet --data_path $(WEIGHTS)/store \
	  --project_path $(WEIGHTS) --train_data_list 0,1,2,3,4,5,6,7,8 --val_data_list 9 --lr 1e-3 --n_epochs 30 \
	  --val_check_interval 0 --train_stride 5 --augment response,amplitude --augment_p 0.3 --step_size 8 \
	  --gamma 0.5 --patience 10 --logger csv
	$(BIN)/python staging_evaluate.py -e seqsleepnet --data_path $(WEIGHTS)/store --project_path $(WEIGHTS)
	$(BIN)/python bundle_weights.py --run $(WEIGHTS)/seqsleepnet_fold9 $(if $(REAL),--real $(REAL))

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint
	$(BIN)/python -m pytest

test-slow: setup
	$(BIN)/python -m pytest -m slow

bench: setup
	$(BIN)/python -m benchmarks.generating
	$(BIN)/python -m benchmarks.preparing
	$(BIN)/python -m benchmarks.reading
	$(BIN)/python -m benchmarks.cmt
	$(BIN)/python -m benchmarks.zoo
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.explaining
	$(BIN)/python -m benchmarks.pretraining
	$(BIN)/python -m benchmarks.foundation
	$(BIN)/python -m benchmarks.predicting

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis
