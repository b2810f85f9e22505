"""Every `--json` document, key by key: the table that tests/bench/cli/test_json.py holds them to."""

_ENVIRONMENT = """/.environment.packages text: .*
/.environment null|text: .git_commit .cuda
/.environment number: .threads
/.environment.devices text: .*
/.environment null|number: .cudnn
/.environment truth: .tf32 .cudnn_benchmark .deterministic
"""

# By command: where, of which type, which keys. [] is each of a list, * each of an object's names; "?" may be missing.
TABLE: dict[str, str] = {
    "run": """
/.runs[] text: .digest .path .method .dataset .subset .precision .certifier .seal
/.runs[] number: .sigma .n0 .n .alpha .images .images_planned .samples .seconds
/.runs[] truth: .random_weights
/.runs[] null|number: .abstained .acr
/.runs[].accuracy number: .*
""",
    "run, sequential": """
/.runs[] text: .digest .path .method .dataset .subset .precision .certifier .seal .mode
/.runs[] number: .sigma .n0 .n .alpha .images .images_planned .samples .seconds .radii[] .acr_at_least
/.runs[] truth: .random_weights
/.runs[] null|number: .abstained .acr
/.runs[].accuracy number: .*
/.runs[].stopped number: .*
""",
    "run --dry-run": """
/.plan[] text: .digest .device
/.plan[].spec text: .method .dataset .split .subset .subset_fingerprint .preprocessing .certifier .precision .noise
/.plan[].spec.params number|text|truth: .*
/.plan[].spec.weights text: .*
/.plan[].spec number: .images .shape[] .sigma .n0 .n .alpha .seed
/.plan[] number: .passes .passes_fixed .passes_sequential_expected .pilot_images .seconds
/.plan[] null|number: .flops_per_pass
/.plan[].calls_per_pass number: .*
""",
    "plan": """
/ number: .images .n
/.driver_seconds number: .task .unit
/.demands[] text: .network
/.demands[] number: .sigma .n .radii[] .images .looks[] .going[] .mean_samples
/.rows[] text: .method .title .seconds_origin .seconds_source
/.rows[] number: .sigma .seconds_per_sample .fixed_samples .sequential_samples_expected .fixed_gpu_hours .published_n
/.rows[] number: .published_n_gpu_hours .sequential_gpu_hours
/.rows[].devices[] number: .devices .driver_busy_seconds
/.rows[].devices[].fixed number: .seconds .efficiency
/.rows[].devices[].by_look number: .seconds .efficiency
/.rows[].devices[].by_image number: .seconds .efficiency
/.rows[].devices[].by_share number: .seconds .efficiency
/.rows[] none: .devices[]
/ text: .notes[]
""",
    "status": """
/.runs[] text: .name .state .digest .method .dataset
/.runs[] number: .sigma .images .images_planned
/.runs[] null|number: .samples_per_second .seconds_left .seconds_since_last_row
/.runs[] null|text: .reason .log
/ number: .done .running .pending .failed .samples_per_second .seconds_left .unknown
""",
    "runs list": """
/.runs[] text: .digest .path .method .dataset .subset .precision .certifier .seal
/.runs[] number: .sigma .n0 .n .alpha .images .images_planned .samples .seconds
/.runs[] truth: .random_weights
/.runs[] null|number: .abstained .acr
/.runs[].accuracy number: .*
""",
    "runs list DIGEST": """
/ text: .digest .path .method .dataset .subset .precision .certifier .seal
/ number: .sigma .n0 .n .alpha .images .images_planned .samples .seconds .conflicts .unsealed
/ truth: .random_weights
/ null|number: .abstained .acr
/.accuracy number: .*
/.spec text: .method .dataset .split .subset .subset_fingerprint .preprocessing .certifier .precision .noise
/.spec.params number|text|truth: .*
/.spec.weights text: .*
/.spec number: .images .shape[] .sigma .n0 .n .alpha .seed
/.execution text: .devices[] .executor
/.execution null|number: .batch .workers
/.execution none: .options[]
/.execution text: .compile
/.environment text: .python .platform .cpu .precision .compile
/.environment none: .kernels[]
"""
    + _ENVIRONMENT,
    "runs merge": """
/ text: .digest .path .method .dataset .subset .precision .certifier .seal
/ number: .sigma .n0 .n .alpha .images .images_planned .samples .seconds
/ truth: .random_weights
/ null|number: .abstained .acr
/.accuracy number: .*
""",
    "runs export": """
/ text: .archive .manifest_sha256
/ number: .runs
""",
    "runs import": """
/.runs[] text: .digest .path
/.runs[] truth: .added
""",
    "verify": """
/ text: .digest .path .seal .run_sha256 .differs_here[]
/.weights text: .*
/.files text: .*
/ number: .seed .rows .other_images .equal .votes .moved .other_class .largest_change
""",
    "report": """
/ number: .format
/.tables[] text: .name .title .caption .notes[]
/.tables[].columns[] text: .key .title
/.tables[].columns[] null|number: .radius
/.tables[].rows[][] number|text: .value
/.tables[].rows[][] text: .unit .source .note .origin .against_row
/.tables[].rows[][] null|number: .low .high .successes .images .n .against
/.tables[].rows[][] truth: .bold
""",
    "strips": """
/ text: .dataset .files[]
/.strips[] number: .sigma
/.strips[].pictures[] text: .picture
/.strips[].pictures[] number: .image .least .most .shown[]
""",
    "probe": """
/ number: .format .rfd
/ text: .digest .created .dataset .model .note
/ null: .training
/.accuracy number: .*
/.spec text: .method .weights .layer .dataset .preprocessing .train_fingerprint .subset .subset_fingerprint .noise
/.spec number: .trajectory[] .shape[] .train_images .images .sigmas[] .seed
/.spec.probe text: .optimiser .schedule
/.spec.probe number: .head_std .epochs .batch .lr .entropy
/.environment text: .python .platform .cpu .precision
"""
    + _ENVIRONMENT,
    "generate": """
/ number: .format .images .rows .sigmas[] .steps .seed
/ text: .method .dataset
/.weights text: .*
/.frechet[] text: .space
/.frechet[] number: .width .distance .floor .generated .reference .others
/.environment text: .python .platform .cpu .precision
"""
    + _ENVIRONMENT,
    "compare": """
/ number: .format .alpha .level
/.a text: .run
/.a.spec text: .method .dataset .split .subset .subset_fingerprint .preprocessing .certifier .precision .noise
/.a.spec.params number|text|truth: .*
/.a.spec.weights text: .*
/.a.spec number: .images .shape[] .sigma .n0 .n .alpha .seed
/.b text: .run
/.b.spec text: .method .dataset .split .subset .subset_fingerprint .preprocessing .certifier .precision .noise
/.b.spec.params number|text|truth: .*
/.b.spec.weights text: .*
/.b.spec number: .images .shape[] .sigma .n0 .n .alpha .seed
/.images number: .common .only_a .only_b
/ text: .bound
/.radii[] number: .radius .low .high .p .p_holm .p_bh .difference
/.radii[].counts number: .both .only_a .only_b .neither
/.radii[] null|number: .detectable
/.acr number: .a .b .low .high
/ none: .notes[]
""",
    "claims": """
/ number: .format
/.claims[] text: .key .text .where .stated .derived .how .rows[] .note
/.claims[] number: .value
/.claims[] truth: .holds
/.bold[] text: .table .row .rival
/.bold[] number: .radius .value .best .p .p_holm
/.bold[] truth: .largest
/.field[] text: .key .text .where .stated .derived .how .rows[]
/.field[] number: .value
/.field[] truth: .survives
""",
    "methods": """
/.methods[] text: .name .title .cite .trains[]
/.methods[].roles[] text: .name .help
/.methods[].params[] text: .name .choices[] .help
/.methods[].params[] null|number|text|truth: .default
/.methods[].params[].by_dataset number|text|truth: .*
/.methods[].weights[] text: .name .role .dataset .source
/.methods[].weights[] null|number: .sigma
/.methods[].weights[] null|text: .sha256
/.methods[] none: .weights[]?
""",
    "methods NAME": """
/ text: .name .title .cite .trains[]
/.roles[] text: .name .help
/.params[] text: .name .choices[] .help
/.params[] null|text: .default
/.params[].by_dataset number|text|truth: .*
/.weights[] text: .name .role .dataset .source
/.weights[] number: .sigma
/.weights[] null|text: .sha256
""",
    "datasets": """
/.datasets[] text: .name .title .cite .default_subset
/.datasets[] null|number: .num_classes
/.datasets[] number: .shape[]
/.datasets[] null: .shape
""",
    "latency": """
/.rows[] text: .title
/.rows[].record number: .format .batch .curve[][] .n0 .n .copies .seconds[] .wall[] .discarded[] .warmup[] .setup_s
/.rows[].record number: .overhead_s
/.rows[].record text: .spec_digest .created .clock .batch_from .doubts[]
/.rows[].record.spec text: .method .dataset .split .subset .subset_fingerprint .preprocessing .certifier .precision
/.rows[].record.spec text: .noise
/.rows[].record.spec.params number|text|truth: .*
/.rows[].record.spec.weights text: .*
/.rows[].record.spec number: .images .shape[] .sigma .n0 .n .alpha .seed
/.rows[].record.device text: .name .kind .profile .peak_origin
/.rows[].record.device number: .threads .peak_flops_s .peak_bytes_s
/.rows[].record.environment text: .python .platform .cpu .precision
/.rows[].record.environment.packages text: .*
/.rows[].record.environment null|text: .git_commit .cuda
/.rows[].record.environment number: .threads
/.rows[].record.environment.devices text: .*
/.rows[].record.environment null|number: .cudnn
/.rows[].record.environment truth: .tf32 .cudnn_benchmark .deterministic
/.rows[].record truth: .steady .replayed
/.rows[].record none: .extrapolated_from[]
/.rows[].record.stages number: .*
/.rows[].record null|number: .noise_host .energy_j .peak_bytes
/.rows[].record.work.flops number: .*
/.rows[].record.work.bytes number: .noise .denoise .classify .count
/.rows[].record.work.pass_bytes number: .noise .denoise .classify .count
/.rows[].record.work.convolution number: .noise .denoise .classify .count
/.rows[].record.calls none: .*
/.rows[].record.watch null|number: .energy_j .clocks_mhz .clock_limit_mhz .power_cap_w .temperature_c .others
/.rows[].record.watch null|number: .cpu_share .load
/.rows[].record.watch null|truth: .clocks_locked
/.rows[].record.watch none: .throttled[]
/.rows[].record.watch number: .samples
/.rows[].record.derived text: .kind
/.rows[].record.derived number: .single_stream_s .single_stream_p90_s .offline_images_s .copies_s .repeat_difference
/.rows[].record.derived number: .clock_difference
/.rows[].record.derived null|number: .mfu
/.rows[] null: .projection .projection_bf16
/.rows[] null|text: .refusal
""",
    "latency --claims": """
/.claims[] number: .times .ratios[] .derived
/.claims[] text: .where .over[] .base .note
""",
    "latency --backtest": """
/.pairs[] text: .source .target .precision
/.pairs[] number: .error
/.pairs[] truth: .same_family
/.leave_one_out[] text: .device .precision .kind .network
/.leave_one_out[] number: .error .flops
/.leave_one_out[] truth: .published
""",
    "bench": """
/ number: .format
/ text: .created
/.machine text: .python .platform .cpu .precision .capability
/.machine.packages text: .*
/.machine null|text: .git_commit .cuda
/.machine number: .threads
/.machine.devices text: .*
/.machine null|number: .cudnn
/.machine truth: .tf32 .cudnn_benchmark .deterministic
/.peaks[] text: .precision
/.peaks[] number: .flops_s .side .threads
/ text: .remarks[]
/.networks[] text: .name .method .dataset .device .precision .compiled .flips_of .doubts[]
/.networks[].params number|text|truth: .*
/.networks[].weights text: .*
/.networks[] number: .shape[] .sigma .batch .threads .plain_batch .plain_curve[][] .flops .row_s .forward_copies_per_s
/.networks[] number: .certifier_copies_per_s .plain_copies_per_s .speedup .cpu_speedup .overhead .cpu_overhead
/.networks[] number: .flop_share
/.networks[].forward number: .seconds[] .cpu[]
/.networks[].certifier number: .seconds[] .cpu[]
/.networks[].plain number: .seconds[] .cpu[]
/.networks[].flips[] text: .by
/.networks[].flips[] number: .flipped .copies .seconds .base_seconds
/.networks[] none: .runs_by[]
/.networks[].kernels none: .*
/.networks[] null|number: .default_speedup
""",
    "check": """
/ text: .method
/.findings[] text: .claim .detail
/.findings[] truth: .ok
""",
    "doctor": """
/.versions null|text: .*
/.devices text: .*
/.folders text: .cache .configuration
/.parts text: .*
/.optional text: .*
/.weights number|text: .*
""",
    "train": """
/ text: .method .stage .dataset .preset .reaches
/ number: .sigma .steps .parameters .world_size .seconds .images_per_second .micro_batch .flops_per_image .flops
/ number: .convolutions
/.settings number|text|truth: .*
/ truth: .dry_run .synthetic .left_uncompiled
/ text: .device
/ null: .share .product_flops
/.loader number: .gives .workers .cores
/.memory[] number: .processes .weights .gradients .optimiser .activations .features .images .total
/.gpus[] text: .key .name
/.gpus[] number: .share .images_per_second .gpu_hours
""",
    "study": """
/ text: .study .tier .out
/.items[] text: .name .kind .state .images .parents[]
/.items[] null|number: .seconds .seconds_left .images_seen .copies_seen .flops
/ number: .done .running .pending .waiting .failed .seconds_left
""",
    "weights list": """
/.weights[] text: .name .state .method .role .dataset .licence .source .note
/.weights[] null|text: .path .sha256 .url .page
/.weights[] null|number: .sigma .bytes
/.weights[].params number|text|truth: .*
""",
    "weights verify": """
/.weights[] text: .name .state .path .method .role .dataset .sha256 .licence .source .note
/.weights[] null|number: .sigma
/.weights[].params number|text|truth: .*
/.weights[] number: .bytes
/.weights[] null|text: .url .page
""",
    "weights show": """
/ text: .path .sha256
/ number: .tensors .numbers
/ null: .training
/.says text: .method .stage .dataset .preset .sigma .seed .arch .normaliser
""",
    "weights add": """
/ text: .name .state .path .method .role .dataset .sha256 .licence .source .note
/ null|number: .sigma
/.params number|text|truth: .*
/ number: .bytes
/ null|text: .url .page
""",
    "weights remove": """
/ text: .name
/ null|text: .removed
""",
    "logs audit": """
/ number: .alpha_stated
/.logs[] text: .path .sha256 .layout[] .split .subset .order .grounds .correct_column
/.logs[] truth: .header
/.logs[] number: .images .images_expected .sigma .n .alpha .chance
/.logs[] null|text: .dataset
/.logs[] none: .also_fits[] .findings[]
/.logs[].printed number: .radii[] .certified[] .least[] .most[] .accuracy[]
/.logs[].printed null|number: .abstained .acr
/.logs[] null: .at_stated_alpha
/ none: .best[]
/.damaged none: .*
/.no_logs none: .*
""",
    "logs import": """
/.imported[] text: .path .digest .source
/.refused none: .*
""",
}
