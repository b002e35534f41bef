# Read by tools/check and .ci/run: named steps, their times, and a stop at the first that fails.

step_names=()
step_seconds=()

minutes() {
    printf '%dm %02ds' $(($1 / 60)) $(($1 % 60))
}

# step NAME COMMAND...: runs the command. In a function given as COMMAND `set -e` is off: join its parts with `&&`.
step() {
    local name=$1 start=$SECONDS status=0
    shift
    printf '\n== %s\n' "$name"
    "$@" || status=$?
    local seconds=$((SECONDS - start))
    step_names+=("$name")
    step_seconds+=("$seconds")
    printf -- '-- %s: %s\n' "$name" "$(minutes "$seconds")"
    if ((status != 0)); then
        step_table
        printf 'FAILED: %s (exit code %d): %s\n' "$name" "$status" "$*" >&2
        exit 1
    fi
}

# The steps so far, and the time since the script began.
step_table() {
    local index
    printf '\n%-56s %8s\n' step time
    for index in "${!step_names[@]}"; do
        printf '%-56s %8s\n' "${step_names[index]}" "$(minutes "${step_seconds[index]}")"
    done
    printf '%-56s %8s\n' total "$(minutes "$SECONDS")"
}
