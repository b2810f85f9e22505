#!/bin/sh
# Trains three sizes of rRCM on digits, certifies and draws them; from the folder of the project. 15 to 30
# minutes of a core.
# usage: results/sizes-digits/make.sh [FOLDER OF THE WEIGHTS]
set -eu
trained=${1:-results/train/sizes-digits}
out=results/sizes-digits

# one SIZE: pre-train and fine-tune it, each for half of what the preset `digits` has, and certify 100 test images
one() {
    rrcm-bench train rrcm pretrain --dataset digits --out "$trained/$1" --set size="$1" --set steps=2000
    rrcm-bench train rrcm finetune --dataset digits --sigma 0.5 --out "$trained/$1-tuned" --set size="$1" \
        --init "$trained/$1/rrcm-pretrain.safetensors" --set epochs=100 --set cosine_epochs=100
    rrcm-bench run --methods rrcm --dataset digits --sigma 0.5 --limit 100 --n 500 --out "$out" \
        --weights "rrcm.network=$trained/$1-tuned/rrcm-finetune-0.50.safetensors"
}

for size in nano tiny XS; do
    one "$size"
done
rrcm-bench report --runs "$out" --trained "$trained" --figures 3 --out "$out"
