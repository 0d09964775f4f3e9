# Every target sets up what it needs; nothing has to be run before it.
PYTHON ?= python3
BIN := .venv/bin
SET_UP := .venv/.set-up
# what make demo generates and how long it trains, such as: make demo DEMO="--subjects 5 --hours 1"
DEMO ?= --subjects 10
TRAIN ?= --train_stride 15 --n_epochs 7 --step_size 4

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
	$(BIN)/python cmt_evaluate.py --model_type Seq --is_interpret True --interpret_select per_stage:2 --interpret_recordings 1
	@echo "open the page above in a browser; the run is in results/cmt_seq_fold4; next: README.md"

# pretrain all nine configurations on the demo store, longer with: make ssl SSL="--n_epochs 10"
SSL ?= --n_epochs 1 --logger csv
ssl: setup
	@test -d data/demo/store || $(MAKE) demo
	set -e; for config in configs/*.json; do $(BIN)/python ssl_training.py --config $$config $(SSL); done
	$(BIN)/python ssl_evaluate.py --runs all --tuned False
	$(BIN)/python latent_space_evaluator.py

# train the default of predict.py again: two hours on two cores
#   make weights TABLE=sc153.npz        a table of band powers of real nights (docs/tables.md: where to get it)
#   make weights TABLE=… PARTIAL=folder adds the agreement with parts of real nights; HELD_OUT=yes with held-out subjects of the
#                                       table, REAL=folder with one whole night, which is logged: both at the very end
#   make weights TABLE=… SLEEP_EDF=dir  trains the raw networks on the real Sleep-EDF recordings in that folder
#   make candidates TABLE=… PARTIAL=dir trains and compares all candidates, of which results/weights/rule.md chooses
WEIGHTS := data/weights
CHOSEN := spectra,bands-moved,yasa
SEEDS := 0 1 2
ONE_THREAD := OMP_NUM_THREADS=1 $(BIN)/python
GENERATE := $(BIN)/python generate_demo_data.py --nights 1
PREPARE := $(BIN)/python preprocess_sleepedf.py --keep_all --folds kfold:10:0
RAW_STORE := $(WEIGHTS)/$(if $(SLEEP_EDF),sleep_edf,store)
BANDS := --n_test 16 --n_val 12 --split_seed 20 --logger csv

$(WEIGHTS)/alike: $(SET_UP)
	$(GENERATE) --subjects 100 --hours 9 --seed 903 --omit blink,rem,sem --output $(WEIGHTS)/raw_alike
	$(PREPARE) --raw_path $(WEIGHTS)/raw_alike --save_path $@ --channels EEG,EEG2 --resample 100
$(WEIGHTS)/raw: $(SET_UP)
	$(GENERATE) --varied --subjects 100 --hours 7 --seed 902 --output $@
$(WEIGHTS)/raw_compared: $(SET_UP)
	$(GENERATE) --varied --subjects 20 --hours 7 --seed 905 --output $@
$(WEIGHTS)/store: $(WEIGHTS)/raw
	$(PREPARE) --raw_path $< --save_path $@ --channels EEG --resample 100 --preset equalised
$(WEIGHTS)/robust: $(WEIGHTS)/raw
	$(PREPARE) --raw_path $< --save_path $@ --channels EEG --preset robust
$(WEIGHTS)/sleep_edf: $(SET_UP)
	$(PREPARE) --raw_path $(SLEEP_EDF) --save_path $@ --channels EEG --resample 100 --preset equalised

.PHONY: spectra bands-simulated bands-moved bands-table bands-both robust candidates
spectra: $(RAW_STORE)
	for k in $(SEEDS); do $(ONE_THREAD) staging_training.py -e seqsleepnet --data_path $< --project_path $(WEIGHTS)/parts/$@/seed$$k \
	  --train_data_list 0,1,2,3,4,5,6,7,8 --val_data_list 9 --lr 1e-3 --n_epochs 20 --val_check_interval 0 --train_stride 5 \
	  --augment response,amplitude,contrast --augment_p 0.5 --step_size 7 --gamma 0.5 --patience 8 --seed $$k --logger csv || exit; done
robust: $(WEIGHTS)/robust
	for k in 0 1; do $(ONE_THREAD) staging_training.py -e robustsleepnet --data_path $< --project_path $(WEIGHTS)/parts/$@/seed$$k \
	  --channels EEG --train_data_list 0,1,2,3,4,5,6,7,8 --val_data_list 9 --n_epochs 6 --train_stride 21 --augment response,contrast \
	  --seed $$k --logger csv || exit; done
bands-table: setup
	@test -f "$(TABLE)" || { echo "TABLE=sc153.npz is missing; where to get it: docs/tables.md"; exit 2; }
	for k in $(SEEDS); do $(ONE_THREAD) bands_training.py --table $(TABLE) $(BANDS) --seed $$k --n_epochs 50 \
	  --augment derivation,stages,composition,noise --project_path $(WEIGHTS)/parts/$@/seed$$k || exit; done
bands-simulated: $(WEIGHTS)/alike $(WEIGHTS)/store
	for k in $(SEEDS); do $(ONE_THREAD) bands_training.py --data_path $^ $(BANDS) --seed $$k --n_epochs 30 \
	  --project_path $(WEIGHTS)/parts/$@/seed$$k || exit; done
bands-both: $(WEIGHTS)/alike $(WEIGHTS)/store
	@test -f "$(TABLE)" || { echo "TABLE=sc153.npz is missing; where to get it: docs/tables.md"; exit 2; }
	for k in $(SEEDS); do $(ONE_THREAD) bands_training.py --data_path $^ --table $(TABLE) $(BANDS) --seed $$k --n_epochs 30 \
	  --project_path $(WEIGHTS)/parts/$@/seed$$k || exit; done
bands-moved: $(WEIGHTS)/alike $(WEIGHTS)/store
	@test -f "$(TABLE)" || { echo "TABLE=sc153.npz is missing; where to get it: docs/tables.md"; exit 2; }
	for k in $(SEEDS); do $(ONE_THREAD) bands_training.py --data_path $^ --stage_means $(TABLE) $(BANDS) --seed $$k --n_epochs 30 \
	  --project_path $(WEIGHTS)/parts/$@/seed$$k || exit; done

candidates: spectra bands-simulated bands-moved bands-table bands-both robust $(WEIGHTS)/raw_compared
	$(BIN)/python compare_candidates.py --partial $(PARTIAL)
weights: spectra bands-moved $(WEIGHTS)/raw_compared
	$(BIN)/python bundle_weights.py --parts $(CHOSEN) $(if $(PARTIAL),--partial $(PARTIAL)) \
	  $(if $(HELD_OUT),--table $(TABLE)) $(if $(REAL),--real $(REAL))
	$(BIN)/python bundle_prototypes.py --data_path $(RAW_STORE)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# two processes; a file's tests, which share what they prepared, stay in one
test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: setup
	$(BIN)/python -m pytest -m slow

bench: setup
	$(BIN)/python -m benchmarks.generating
	$(BIN)/python -m benchmarks.preparing
	$(BIN)/python -m benchmarks.reading
	$(BIN)/python -m benchmarks.cmt
	$(BIN)/python -m benchmarks.zoo
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.training --cohort
	$(BIN)/python -m benchmarks.opening
	$(BIN)/python -m benchmarks.devices
	$(BIN)/python -m benchmarks.explaining
	$(BIN)/python -m benchmarks.completeness
	$(BIN)/python -m benchmarks.pretraining
	$(BIN)/python -m benchmarks.foundation
	$(BIN)/python -m benchmarks.predicting
	$(BIN)/python -m benchmarks.page
	$(BIN)/python -m benchmarks.peers
	$(BIN)/python -m benchmarks.coverage

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis
