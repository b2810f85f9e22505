#!/bin/sh
# Trains, certifies and draws all that is in this folder; from the folder of the project. Five minutes on one core.
# usage: results/ablations-digits/make.sh [FOLDER OF THE WEIGHTS]
set -eu
trained=${1:-results/train/ablations-digits}
out=results/ablations-digits

# pre NAME SETTING...: pre-train the tiny network, 400 steps of 64 images where no setting says otherwise
pre() {
    name=$1
    shift
    set -- $(for setting in batch=64 steps=400 warmup_steps=50 "$@"; do echo --set "$setting"; done)
    rrcm-bench train rrcm pretrain --dataset digits --out "$trained/$name" "$@"
}

# one NAME FILE: fine-tune a pre-trained file at sigma 0.5, certify 100 test images
one() {
    rrcm-bench train rrcm finetune --dataset digits --sigma 0.5 --init "$2" --out "$trained/$1-tuned" \
        --set epochs=20 --set cosine_epochs=20
    rrcm-bench run --methods rrcm --dataset digits --sigma 0.5 --limit 100 --n 500 --out "$out" \
        --weights "rrcm.network=$trained/$1-tuned/rrcm-finetune-0.50.safetensors"
}

pre base keep_every=100
one base "$trained/base/rrcm-pretrain.safetensors"
for steps in 100 200; do
    one "base-$steps" "$trained/base/rrcm-pretrain-step$steps.safetensors"
done
for setting in batch=16 batch=128 objective=moco consistency_ema=0.99 tau=0.05 tau=1 t_max=1; do
    pre "$setting" "$setting"
    one "$setting" "$trained/$setting/rrcm-pretrain.safetensors"
done
for levels in 0.5 1 2 0.5,1,2; do
    pre "initial-$levels" pairing=initial "levels=$levels"
    one "initial-$levels" "$trained/initial-$levels/rrcm-pretrain.safetensors"
done
rrcm-bench report --runs "$out" --trained "$trained" --figures 4,budget,9,10,11 --out "$out"
