#!/bin/sh
# One run on two machines: start this on both, with the same options, a number of its own on each, and the first machine's address.
#
#     sh examples/two_machines.sh 0 10.0.0.1 --teacher cnn:width=64 --train-teacher --student cnn:width=8 --data digits --out /shared/runs/two
#     sh examples/two_machines.sh 1 10.0.0.1 --teacher cnn:width=64 --train-teacher --student cnn:width=8 --data digits --out /shared/runs/two
#
# The number is 0 on the first machine and 1 on the second. Each reads the data itself; --out must lie on a file system that both see. The
# batch is that of one process: it is spread over all of them, so the result is the same up to rounding. The first machine prints the
# table. To go on after a stop, write --resume /shared/runs/two in place of the other options, on both.
#
# PROCESSES: processes a machine, one for each GPU (default: 1). PORT: a free port of the first machine (default: 29500).
set -eu
if [ $# -lt 3 ]; then
    echo "usage: $0 0|1 ADDRESS_OF_THE_FIRST_MACHINE options of tutelage distill" >&2
    exit 2
fi
number=$1
address=$2
shift 2
exec torchrun --nnodes 2 --node_rank "$number" --nproc_per_node "${PROCESSES:-1}" --master_addr "$address" --master_port "${PORT:-29500}" \
    -m tutelage distill "$@"
