#!/bin/bash
# A training on several machines of a Slurm cluster; the same command resumes it:
#   sbatch configs/slurm/train.sh cmt_training.py --model_type Seq --data_path data/shhs
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
set -e
devices=${SLURM_GPUS_ON_NODE:-1}
# the batch script runs on the first machine, where all meet
srun torchrun --nnodes="$SLURM_NNODES" --nproc_per_node="$devices" --rdzv_id="$SLURM_JOB_ID" \
    --rdzv_backend=c10d --rdzv_endpoint="${MEETING:-$(hostname):29500}" \
    "$@" --devices "$devices" --num_nodes "$SLURM_NNODES"
